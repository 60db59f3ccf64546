//! Is a question answered over HTTP as by the library?
