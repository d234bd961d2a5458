//! The directory of an embedded libvirt: `qemu:///embed?root=DIR` keeps everything it has below it.
//!
//! Guests outlive the process; whoever opens the directory next has them again. Only one process can have it open.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::hypervisor::HypervisorError;
use crate::hypervisor::account::{Account, Want};

/// The longest directory: below it, libvirt makes `lib/qemu/domain-NNNNNN-anweddol-XXXXXXXX-XX/monitor.sock`, and
/// the path of a UNIX socket has at most 107 bytes.
const LONGEST_ROOT: usize = 50;

/// Who runs QEMU below a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Runner {
    /// This process' own user, who is not root.
    Myself,
    /// Another user, because this process is root and guests have no business being that.
    Account(Account),
}

impl Runner {
    /// Who it is for this process.
    pub(super) fn of_this_process() -> Result<Runner, HypervisorError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Runner::Myself);
        }
        Account::of_qemu().map(Runner::Account).ok_or_else(|| HypervisorError::Invalid {
            what: "running QEMU as a user other than root".into(),
            reason: "there is none of the users libvirt-qemu, qemu, nobody in /etc/passwd: make one of them, or \
                     start the daemon as another user than root"
                .into(),
        })
    }

    /// The account, where it is another than our own.
    pub(super) fn account(&self) -> Option<&Account> {
        match self {
            Runner::Myself => None,
            Runner::Account(account) => Some(account),
        }
    }

    fn mode(&self) -> u32 {
        match self {
            Runner::Myself => 0o700,
            Runner::Account(_) => 0o711,
        }
    }

    /// libvirt's configuration file for it.
    fn configuration(&self) -> String {
        let mut text = String::from(
            "# Written by anweddol at every start.\n\
             stdio_handler = \"file\"\n\
             security_driver = \"none\"\n\
             dynamic_ownership = 0\n",
        );
        match self {
            Runner::Myself => {}
            Runner::Account(account) => {
                text.push_str(&format!("user = \"{}\"\ngroup = \"{}\"\n", account.name, account.group));
            }
        }
        text
    }
}

/// The URI of an embedded libvirt.
pub(super) fn uri(root: &Path) -> String {
    let escaped: String = root
        .to_string_lossy()
        .bytes()
        .map(|byte| match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    format!("qemu:///embed?root={escaped}")
}

/// Makes the directory ready to be opened.
pub(super) fn prepare(root: &Path, runner: &Runner) -> Result<(), HypervisorError> {
    let invalid = |reason: String| HypervisorError::Invalid { what: format!("libvirt's directory {root:?}"), reason };
    check(root).map_err(invalid)?;
    let failed = |error: io::Error| invalid(error.to_string());
    DirBuilder::new().recursive(true).mode(runner.mode()).create(root).map_err(failed)?;
    fs::set_permissions(root, Permissions::from_mode(runner.mode())).map_err(failed)?;
    if let Runner::Account(account) = runner
        && let Some(part) = account.obstacle(root, Want::Enter).map_err(failed)?
    {
        return Err(invalid(format!(
            "the user '{}', who runs QEMU, cannot pass {part:?}: choose a directory that others may pass (mode 0711), \
             such as one in /run",
            account.name
        )));
    }
    forget_unborn(&root.join("run/qemu")).map_err(failed)?;
    let etc = root.join("etc");
    DirBuilder::new().recursive(true).mode(0o755).create(&etc).map_err(failed)?;
    let (file, fresh) = (etc.join("qemu.conf"), etc.join("qemu.conf.new"));
    fs::write(&fresh, runner.configuration()).and_then(|()| fs::rename(&fresh, &file)).map_err(failed)
}

/// Removes what libvirt wrote of domains whose QEMU was not there yet.
///
/// A process that is killed then leaves a status file with pid 0, and libvirt (9.0) looks at no such domain again: it
/// would be shown as starting for ever, with a lock that nobody gives back. There is no QEMU to forget with it: libvirt
/// writes its pid before it lets it begin. Kept by `a_start_that_was_cut_off_before_its_qemu_is_forgotten`, on libvirt by
/// `a_domain_whose_start_was_cut_off_is_not_there_for_the_next_one`.
fn forget_unborn(run: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(run) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "xml") && is_unborn(&fs::read_to_string(&path)?) {
            fs::remove_file(&path)?;
            tracing::info!(?path, "forgot a start that was cut off before its QEMU was there");
        }
    }
    Ok(())
}

/// Whether a status file says that there is no QEMU yet.
fn is_unborn(status: &str) -> bool {
    let mut reader = Reader::from_str(status);
    loop {
        match reader.read_event() {
            Ok(Event::Start(element)) => {
                let pid = element.try_get_attribute("pid").ok().flatten();
                return element.name().as_ref() == "domstatus" && pid.is_some_and(|pid| pid.value.as_ref() == "0");
            }
            Ok(Event::Eof) | Err(_) => return false,
            // What stands before it: a comment, a declaration.
            Ok(_) => {}
        }
    }
}

fn check(root: &Path) -> Result<(), String> {
    let Some(text) = root.to_str() else { return Err("the path has to be UTF-8".into()) };
    if !root.is_absolute() {
        return Err("the path has to be absolute".into());
    }
    if text.chars().any(char::is_control) {
        return Err("control characters are not allowed in it".into());
    }
    if text.len() > LONGEST_ROOT {
        return Err(format!(
            "the path has {} bytes and at most {LONGEST_ROOT} are possible: the paths of the sockets below it would \
             be too long for the system. Choose a shorter one",
            text.len()
        ));
    }
    Ok(())
}

/// Whether QEMU will be able to read an image.
pub(super) fn check_readable(image: &Path, runner: &Runner) -> Result<(), String> {
    match runner {
        Runner::Myself => fs::File::open(image).map(drop).map_err(|error| error.to_string()),
        Runner::Account(account) => match account.obstacle(image, Want::Read).map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(part) if part == image => {
                Err(format!("the user '{}', who runs QEMU, may not read it: chmod o+r {part:?}", account.name))
            }
            Some(part) => Err(format!(
                "the user '{}', who runs QEMU, cannot pass {part:?}: move the image elsewhere, or chmod o+x {part:?}",
                account.name
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_directory_that_is_too_long_is_refused_in_words() {
        let long = PathBuf::from(format!("/{}", "x".repeat(LONGEST_ROOT)));
        let reason = prepare(&long, &Runner::Myself).unwrap_err().to_string();
        assert!(reason.contains("51 bytes") && reason.contains("at most 50"), "{reason}");
        for bad in ["relative", "/with\nnewline"] {
            assert!(prepare(Path::new(bad), &Runner::Myself).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_longest_directory_leaves_room_for_its_sockets() {
        let socket = "/lib/qemu/domain-999999-anweddol-01234567-89/monitor.sock";
        assert!(LONGEST_ROOT + socket.len() <= 107);
    }

    #[test]
    fn a_path_cannot_add_to_the_uri() {
        assert_eq!(uri(Path::new("/a b/c&x=1#%ü")), "qemu:///embed?root=/a%20b/c%26x%3D1%23%25%C3%BC");
    }

    #[test]
    fn guests_of_root_run_as_somebody_else() {
        let account = Account { name: "libvirt-qemu".into(), uid: 1, group: "kvm".into(), gids: vec![1] };
        let text = Runner::Account(account).configuration();
        assert!(text.contains("user = \"libvirt-qemu\"\ngroup = \"kvm\"\n"), "{text}");
        assert!(!Runner::Myself.configuration().contains("user"));
    }

    #[test]
    fn a_start_that_was_cut_off_before_its_qemu_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let begin = "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE\n-->\n";
        let status = |pid: &str| {
            format!("{begin}<domstatus state='paused' reason='starting up' pid='{pid}'>\n<domain pid='0'/></domstatus>")
        };
        let files = [
            ("unborn.xml", status("0"), false),
            ("runs.xml", status("10"), true),
            ("network.xml", "<networkstatus pid='0'/>".into(), true),
            ("cut.xml", "<domstatus pid=".into(), true),
            ("empty.xml", String::new(), true),
            ("unborn.pid", status("0"), true),
        ];
        for (name, text, _) in &files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        forget_unborn(dir.path()).unwrap();
        for (name, _, stays) in files {
            assert_eq!(dir.path().join(name).exists(), stays, "{name}");
        }
        forget_unborn(&dir.path().join("nothing")).unwrap();
    }

    #[test]
    fn preparing_twice_is_preparing_once() {
        let dir = tempfile::Builder::new().prefix("e").tempdir_in("/tmp").unwrap();
        let root = dir.path().join("virt");
        for _ in 0..2 {
            prepare(&root, &Runner::Myself).unwrap();
        }
        assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(root.join("etc")).unwrap().count(), 1);
    }
}
