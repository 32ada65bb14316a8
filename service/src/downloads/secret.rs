//! The secret that signs links, in a file of the data folder.

use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// The file's name; replicas that share it take each other's links.
const FILE: &str = "url-secret";

/// What signs links. Its bytes are in no message.
#[derive(Clone)]
pub struct Secret([u8; 32]);

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The disk's reason.
    #[error("`{path}`: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why it cannot be read or written.
        source: io::Error,
    },
    /// The file is not one of ours.
    #[error(
        "`{path}` has {bytes} bytes, not 32; remove it to have a new one: links that were given \
             out end then"
    )]
    Length {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        bytes: usize,
    },
}

impl Secret {
    /// Reads the secret of a data folder, which only one process has open; makes it the first time.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn open(folder: &Path) -> Result<Self, SecretError> {
        let path = folder.join(FILE);
        let read = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let secret = Self::random();
                secret.write(folder, &path).map(|()| secret.0.to_vec())
            }
            read => read,
        };
        match read {
            Ok(bytes) => match bytes.try_into() {
                Ok(bytes) => Ok(Self(bytes)),
                Err(bytes) => Err(SecretError::Length { path, bytes: Vec::len(&bytes) }),
            },
            Err(source) => Err(SecretError::Io { path, source }),
        }
    }

    /// One that ends with the process.
    pub fn random() -> Self {
        // 122 bits of each come from the system's generator.
        let halves = [Uuid::new_v4(), Uuid::new_v4()];
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(halves[0].as_bytes());
        bytes[16..].copy_from_slice(halves[1].as_bytes());
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// All of it or nothing: half a secret would keep the server from starting.
    fn write(&self, folder: &Path, path: &Path) -> io::Result<()> {
        let draft = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        // A draft that was left behind may have other permissions.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(&self.0)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(folder)?.sync_all()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
