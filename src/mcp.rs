//! How do language models' programs use the database? The Model Context Protocol.
