//! Where the host's programs are.

use std::path::{Path, PathBuf};

/// Where distributions put libvirt's drivers, below these or a directory of the architecture in them.
const DRIVERS: [&str; 3] = ["/usr/lib", "/usr/lib64", "/usr/local/lib"];
const DRIVER: &str = "libvirt/connection-driver/libvirt_driver_qemu.so";

/// A program, as one that is started by its name is found.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|dir| executable(dir.join(name)))
}

/// The same for one that libvirt starts, which looks for itself.
pub fn find_for_libvirt(name: &str) -> Option<PathBuf> {
    find(name)
        .or_else(|| ["/usr/sbin", "/usr/bin", "/sbin"].iter().find_map(|dir| executable(Path::new(dir).join(name))))
}

fn executable(path: PathBuf) -> Option<PathBuf> {
    rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).ok().filter(|()| path.is_file()).map(|()| path)
}

/// libvirt's driver for QEMU, which a libvirt inside a process loads; it is where libvirt's own build says.
pub fn libvirt_driver() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("LIBVIRT_DRIVER_DIR") {
        return Some(Path::new(&dir).join("libvirt_driver_qemu.so")).filter(|path| path.is_file());
    }
    DRIVERS.iter().find_map(|dir| {
        let below = std::fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
        std::iter::once(PathBuf::from(dir)).chain(below).map(|dir| dir.join(DRIVER)).find(|path| path.is_file())
    })
}

/// Where [`libvirt_driver`] looks.
pub fn driver_places() -> String {
    match std::env::var("LIBVIRT_DRIVER_DIR") {
        Ok(dir) => dir,
        Err(_) => DRIVERS.map(|dir| format!("{dir}/**/{DRIVER}")).join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_a_file_that_can_be_run() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tool");
        std::fs::write(&file, "").unwrap();
        assert_eq!(executable(file.clone()), None);
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(executable(file.clone()), Some(file));
        assert_eq!(executable(dir.path().into()), None);
        assert!(find("sh").is_some() && find("no-such-program").is_none());
    }
}
