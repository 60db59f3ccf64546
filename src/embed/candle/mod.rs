//! How are safetensors run on this CPU, in f32?
//!
//! candle reads the weights; the products are in `math`. The tokens of a pack lie one after the other without padding, and a
//! text's states have the same bits whatever stands beside it.

use self::bert::Bert;
use super::spec::ModelDirectory;
use super::transformer::engine::Engine;
use crate::{Error, Result};

mod bert;
mod weights;

/// The architectures that run here, as `config.json` calls them.
const ARCHITECTURES: [&str; 1] = ["bert"];

/// Loads the encoder of a directory.
///
/// # Errors
/// [`Error::Model`] for an architecture or a setting that is not supported, or weights that do not fit.
pub(crate) fn load(directory: &ModelDirectory) -> Result<Box<dyn Engine>> {
    let architecture = &directory.architecture;
    match architecture.value.as_str() {
        "bert" => Ok(Box::new(Bert::load(directory)?)),
        found => {
            let (source, known) = (&architecture.source, ARCHITECTURES.join(", "));
            let reason = format!("architecture `{found}` ({source}) is not supported yet; supported: {known}");
            Err(Error::model(directory.name(), reason))
        }
    }
}

pub(crate) fn load_classifier(directory: &ModelDirectory) -> Result<Box<dyn Engine>> {
    Err(Error::model(directory.name(), "cross-encoders come with the next change"))
}
