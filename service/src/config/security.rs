//! Who may call, and over what.

use crate::server::{ConnectionLimits, Edge, Origin, TlsFiles};
use clap::Args;
use std::path::PathBuf;

/// Flags of keys, TLS and CORS.
#[derive(Args, Clone, Debug)]
pub struct SecurityArgs {
    /// File of API keys; callers send one as `Authorization: Bearer KEY`, over gRPC as metadata. A key
    /// a line, as it is or as `sha256:` and the 64 hexadecimal digits of its digest, then optional
    /// words: `name=NAME`, which the logs and traces of its requests show, and `read_only` for a key
    /// that may change nothing; it may score, and no call of this version changes anything. The key is
    /// all that stands before those words, spaces within it included; `#` at the start of a line or
    /// after a space begins a comment. A key that holds such a word or ` #` must be given as its
    /// digest. Read again within seconds of a change; a broken file changes nothing and is logged.
    /// Health and the admin listener need no key. Without this flag everybody may call
    #[arg(long, env = "RERANKER_API_KEYS_FILE", value_name = "FILE")]
    pub api_keys_file: Option<PathBuf>,

    /// Certificate for TLS on all listeners, in PEM: the server's own first, then those that lead to
    /// the root. Read again within seconds of a change, as are the other two files; broken ones
    /// change nothing and are logged
    #[arg(long, env = "RERANKER_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of --tls-cert, in PEM
    #[arg(long, env = "RERANKER_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// Certificates, in PEM, one of which must have signed the certificate that a client shows: mutual
    /// TLS on the gRPC and HTTP listeners. The admin listener demands none, because the cluster's
    /// probes have none to show
    #[arg(long, env = "RERANKER_TLS_CLIENT_CA", value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,

    /// Origin whose pages may call the HTTP API from a browser, such as
    /// `https://search.example.com`, or `*` for any; repeat it, or separate several by commas.
    /// Without it none may
    #[arg(
        long = "cors-allow-origin",
        env = "RERANKER_CORS_ALLOW_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ','
    )]
    pub cors_allow_origin: Vec<Origin>,
}

impl SecurityArgs {
    /// The edge, with these limits.
    ///
    /// # Errors
    /// Flags that need another.
    pub(super) fn edge(self, limits: ConnectionLimits) -> Result<Edge, String> {
        let Self { api_keys_file, tls_cert, tls_key, tls_client_ca, cors_allow_origin } = self;
        let tls = match (tls_cert, tls_key, tls_client_ca) {
            (Some(cert), Some(key), client_ca) => Some(TlsFiles { cert, key, client_ca }),
            (None, None, None) => None,
            (Some(cert), None, _) => {
                return Err(format!("--tls-cert `{}` needs --tls-key", cert.display()));
            }
            (None, Some(key), _) => {
                return Err(format!("--tls-key `{}` needs --tls-cert", key.display()));
            }
            (None, None, Some(ca)) => {
                let ca = ca.display();
                return Err(format!("--tls-client-ca `{ca}` needs --tls-cert and --tls-key"));
            }
        };
        Ok(Edge { limits, keys_file: api_keys_file, tls, cors: cors_allow_origin })
    }
}
