//! How does the server speak HTTPS?
//!
//! Invariants: TLS 1.2 and 1.3 by rustls; HTTP/1.1 alone, as without TLS; files that do not fit are refused when the server
//! starts.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::Tls;
use crate::{Error, Result};

/// What takes up connections with this certificate.
pub(super) fn acceptor(files: &Tls) -> Result<TlsAcceptor> {
    let Tls { certificate, key } = files;
    let bytes = |path: &Path| std::fs::read(path).map_err(|error| Error::io(path, error));
    let chain: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(certificate)?).collect();
    let chain = chain.map_err(|error| unfit(certificate, &error))?;
    if chain.is_empty() {
        return Err(unfit(certificate, &"it has no certificate in PEM"));
    }
    let key = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|error| unfit(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::invalid(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| unfit(certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn unfit(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("{} is of no use for HTTPS: {error}", path.display()))
}
