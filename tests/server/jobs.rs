//! Is what takes long told, and stopped?
