//! SHA-256 of images, computed once for each change of a file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;

use crate::model::Image;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file of it is missing or cannot be read.
    #[error(
        "image file '{path}' cannot be read: build one with 'anweddol image build', or name another in 'container.image'"
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a directory, a device, a pipe.
    #[error("image '{path}' is no regular file")]
    NoFile {
        /// Which.
        path: PathBuf,
    },
}

/// Which state of which files a digest is of.
type Stamp = Vec<(u64, u64, u64, i64, i64)>;

/// Remembers digests by what the file system says of the files.
#[derive(Default)]
pub struct Digests(Mutex<HashMap<Image, (Stamp, Arc<str>)>>);

impl Digests {
    /// The SHA-256 of an image in hex: of the ISO, or of the kernel followed by its initial RAM disk.
    pub fn sha256(&self, image: &Image) -> Result<Arc<str>, ImageError> {
        let stamp = image.files().into_iter().map(|path| stamp(path)).collect::<Result<Stamp, _>>()?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, digest)) = known.get(image)
            && *of == stamp
        {
            return Ok(Arc::clone(digest));
        }
        // Computed under the lock: of many requests for a new image one computes and the others wait for it.
        let mut context = digest::Context::new(&digest::SHA256);
        for path in image.files() {
            update(&mut context, path).map_err(|source| ImageError::Unreadable { path: path.clone(), source })?;
        }
        let digest: Arc<str> = hex(context.finish().as_ref()).into();
        known.insert(image.clone(), (stamp, Arc::clone(&digest)));
        Ok(digest)
    }
}

fn stamp(path: &Path) -> Result<(u64, u64, u64, i64, i64), ImageError> {
    let about = fs::metadata(path).map_err(|source| ImageError::Unreadable { path: path.into(), source })?;
    if !about.is_file() {
        return Err(ImageError::NoFile { path: path.into() });
    }
    Ok((about.dev(), about.ino(), about.len(), about.mtime(), about.mtime_nsec()))
}

fn update(context: &mut digest::Context, path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; 1 << 18];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(()),
            n => context.update(&chunk[..n]),
        }
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
