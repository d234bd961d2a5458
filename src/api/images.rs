//! SHA-256 of images, computed once for each change of a file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use data_encoding::HEXLOWER;

use crate::model::Image;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file of it is missing or cannot be read.
    #[error(
        "image file '{path}' cannot be read: build one with 'anweddol image build', or name another in 'container.image' or the pool's template"
    )]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is being written.
    #[error("image file '{path}' changes while it is read: put it in place by renaming a finished file")]
    Changing {
        /// Which, or the first of its image.
        path: PathBuf,
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

/// One image's digest. Its lock is held while it is computed: of many who need it one computes and the others wait.
type Slot = Arc<Mutex<Option<(Stamp, Arc<str>)>>>;

/// Files that change while they are read are read so often.
const MOST_READS: u32 = 3;

/// Remembers digests by what the file system says of the files.
#[derive(Default)]
pub struct Digests(Mutex<HashMap<Image, Slot>>);

impl Digests {
    /// The SHA-256 of an image in hex: of the ISO, or of the kernel followed by its initial RAM disk. Reads the files
    /// only after a change of them; that blocks, but nobody who needs another image.
    pub fn sha256(&self, image: &Image) -> Result<Arc<str>, ImageError> {
        let slot = Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(image.clone()).or_default());
        let mut known = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = stamps(image)?;
        if let Some((of, digest)) = &*known
            && *of == before
        {
            return Ok(Arc::clone(digest));
        }
        for _ in 0..MOST_READS {
            let digest = read(image)?;
            let after = stamps(image)?;
            if after == before {
                *known = Some((after, Arc::clone(&digest)));
                return Ok(digest);
            }
            before = after;
        }
        Err(ImageError::Changing { path: image.files()[0].clone() })
    }
}

fn stamps(image: &Image) -> Result<Stamp, ImageError> {
    image.files().into_iter().map(|path| stamp(path)).collect()
}

fn read(image: &Image) -> Result<Arc<str>, ImageError> {
    let mut context = digest::Context::new(&digest::SHA256);
    for path in image.files() {
        update(&mut context, path).map_err(|source| ImageError::Unreadable { path: path.clone(), source })?;
    }
    Ok(HEXLOWER.encode(context.finish().as_ref()).into())
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
