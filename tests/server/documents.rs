//! Do documents get in and out over HTTP?
