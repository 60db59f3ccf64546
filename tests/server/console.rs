//! Does the console have what it asks for?
