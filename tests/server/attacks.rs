//! What happens to those who mean harm?
