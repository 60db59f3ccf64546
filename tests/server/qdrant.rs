//! Are clients of Qdrant answered?
