//! Are collections made, changed and dropped over HTTP?
