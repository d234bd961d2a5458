//! `anweddol edit`.

use std::fs::{self, File};
use std::io::{Read as _, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::client::{Answer, Daemon, code, path_of};
use super::{NamespaceArgs, named_one, note_keeper, title, yaml};
use crate::cli::{ConfigArgs, Result};
use crate::manifest::{self, Manifest, RESERVED};
use crate::model::ObjectRef;

/// What comes before the object in the editor; every line of it begins so.
const COMMENT: &str = "# ";

#[derive(Args)]
#[command(after_help = "Example:
  EDITOR=nano anweddol edit pool default")]
pub(in crate::cli) struct EditArgs {
    /// KIND NAME, or KIND/NAME
    #[arg(value_name = "KIND NAME", required = true)]
    object: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

pub(in crate::cli) async fn edit(args: EditArgs) -> Result<ExitCode> {
    let object = named_one(&args.object, &args.namespace.namespace)?;
    let daemon = Daemon::of(&args.config)?;
    let before = daemon.get(&path_of(&object)).await?;
    let offered = yaml(&editable(&before))?;
    let (mut text, mut errors) = (offered.clone(), String::new());
    loop {
        let (edited, draft) = Draft::edit(&object, &text, &errors)?;
        if edited == offered {
            println!("{} unchanged", title(&object));
            return Ok(ExitCode::SUCCESS);
        }
        if !errors.is_empty() && edited == text {
            let kept = draft.keep();
            return Err(format!("nothing was written: {errors}; what was edited is in '{}'", kept.display()).into());
        }
        text = edited;
        errors = match read(&object, &text) {
            Err(errors) => errors,
            Ok(manifest) => match write(&daemon, &object, &before, &manifest).await {
                Ok(answer) => {
                    println!(
                        "{} {}",
                        title(&object),
                        if answer.outcome == "unchanged" { "unchanged" } else { "edited" }
                    );
                    note_keeper(&object, &answer);
                    return Ok(ExitCode::SUCCESS);
                }
                // What cannot be may be put right in the editor; everything else not.
                Err(error) if code(&*error) == Some(422) => error.to_string(),
                Err(error) => {
                    let kept = draft.keep();
                    return Err(
                        format!("{}; what was edited is in '{}'", crate::error_chain(&*error), kept.display()).into()
                    );
                }
            },
        };
    }
}

/// What people may change of an object.
fn editable(object: &Value) -> Value {
    let meta = &object["metadata"];
    let mut metadata = json!({ "name": meta["name"], "namespace": meta["namespace"] });
    for name in ["labels", "annotations"] {
        if let Value::Object(mut map) = meta[name].clone() {
            map.retain(|key, _| !key.starts_with(RESERVED));
            if !map.is_empty() {
                metadata[name] = map.into();
            }
        }
    }
    json!({
        "apiVersion": object["apiVersion"],
        "kind": object["kind"],
        "metadata": metadata,
        "spec": object["spec"],
    })
}

fn read(object: &ObjectRef, text: &str) -> std::result::Result<Manifest, String> {
    let manifest::Read { mut manifests, problems } = manifest::read("edited", text.as_bytes());
    if !problems.is_empty() {
        return Err(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    }
    match (manifests.pop(), manifests.is_empty()) {
        (Some(located), true) if located.manifest.object_ref() == *object => Ok(located.manifest),
        (Some(located), true) => Err(format!("this is {}, and {object} is edited", located.manifest.object_ref())),
        _ => Err(format!("write one document, {object}")),
    }
}

/// Writes what was edited, unless somebody else wrote the spec meanwhile. The operator's own writes do not count.
async fn write(daemon: &Daemon, object: &ObjectRef, before: &Value, manifest: &Manifest) -> Result<Answer> {
    loop {
        let now = daemon.get(&path_of(object)).await?;
        let same = |name: &str| now["metadata"][name] == before["metadata"][name];
        if !(["uid", "generation", "labels", "annotations"].into_iter().all(same)) {
            return Err(format!("{object} was changed meanwhile: edit it again").into());
        }
        let revision = now["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let path = format!("{}?resourceVersion={revision}", path_of(object));
        match daemon.ask(Method::PATCH, &path, Some(&manifest.to_json())).await {
            Err(error) if code(&*error) == Some(409) && now["metadata"]["deletionTimestamp"].is_null() => {}
            answer => return answer,
        }
    }
}

/// The file that the editor opens; removed when dropped.
struct Draft(PathBuf);

impl Draft {
    /// Has the text edited: what is left of it, without the comment before it.
    fn edit(object: &ObjectRef, text: &str, errors: &str) -> Result<(String, Draft)> {
        let name = format!("anweddol-edit-{}.yaml", uuid::Uuid::new_v4().simple());
        let draft = Draft(std::env::temp_dir().join(name));
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&draft.0)?;
        let mut head = format!("{object}: change it, save and close. Nothing is written if nothing is changed.\n");
        if !errors.is_empty() {
            head.push_str(&format!("\nIt was not written, because:\n{errors}\n"));
        }
        let head: String = head.lines().map(|line| format!("{COMMENT}{line}").trim_end().to_owned() + "\n").collect();
        write!(file, "{head}{text}")?;
        drop(file);
        open_editor(&draft.0)?;
        let mut edited = String::new();
        File::open(&draft.0)?.take(manifest::MAX_SIZE as u64 + 1).read_to_string(&mut edited)?;
        let body = edited.lines().skip_while(|line| line.starts_with(COMMENT.trim_end()));
        Ok((body.map(|line| format!("{line}\n")).collect(), draft))
    }

    /// Leaves the file where it is.
    fn keep(self) -> PathBuf {
        let path = self.0.clone();
        std::mem::forget(self);
        path
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already, if the editor took it away.
        let _ = fs::remove_file(&self.0);
    }
}

fn open_editor(path: &Path) -> Result<()> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".into());
    // As everybody does it: the variable may hold arguments.
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the editor '{editor}' failed ({status}): nothing was written").into())
    }
}
