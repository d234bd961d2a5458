//! Writing: from a request's verb and the form of its body to the rules of [`crate::api::objects`].

use axum::Json;
use axum::body::Body;
use axum::http::header::{USER_AGENT, WARNING};
use axum::http::{HeaderValue, StatusCode};
use axum::response::IntoResponse;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::limits::Place;
use super::negotiate::{self, Media, PlainPatch};
use super::status::Status;
use super::target::{Part, Resource};
use super::{Answer, Call, Kube, body, reviews, told};
use crate::api::Login;
use crate::api::access::Verb;
use crate::api::namespaces::namespace;
use crate::api::objects::{Deleted, Deletion, Outcome, Request, Subresource, Terms, Verb as Write, Written};
use crate::api::plain::{Edit, PlainError, PlainKind, PlainRef, Preconditions};
use crate::model::{API_VERSION, Kind, ObjectRef};

/// Tells in a word what a write came to, for our own command line.
const OUTCOME: &str = "anweddol-outcome";

impl Kube {
    /// Answers a request about objects.
    pub(super) async fn objects(&self, call: Call, body: Body, place: Place) -> Answer {
        match (call.verb, call.objects.resource) {
            (Verb::Watch, _) => return self.watch(&call, place),
            (Verb::List, _) => return self.list(&call).await,
            (Verb::Get, _) => return self.get(&call),
            _ => {}
        }
        // Refused before anything is done: whoever cannot read the answer would do it again.
        let telling = call.telling()?;
        let _place = place;
        let answer = match call.objects.resource {
            Resource::Ours(kind) => self.write_ours(kind, &call, body).await?,
            Resource::Plain(kind) => self.write_plain(kind, &call, body).await?,
            Resource::Events(face) => {
                if call.objects.name.is_some() && self.events.ours(call.namespace(), call.name())? {
                    return Err(Status::no_verb("what the daemon tells in its log cannot be changed"));
                }
                let told = self.write_event(face, &call, body).await?;
                return Ok(told);
            }
            Resource::Review(review) => {
                let asked = body::object(&call.headers, body).await?;
                Wrote::made(reviews::answer(review, &call.who, asked))
            }
            Resource::Tokens if call.verb == Verb::Create => {
                return self.add_token(body::object(&call.headers, body).await?).await;
            }
            Resource::Tokens => return self.delete_token(call.name()).await,
            Resource::AccessTokens => return self.write_access_token(&call, body).await,
            Resource::Log => return Err(Status::no_verb("the log can only be read")),
        };
        let Wrote { code, object, outcome, warnings } = answer;
        // A Status is told as it is, in whatever form objects are wanted.
        let object = if object["kind"] == "Status" { object } else { telling.one(object, (self.clock)()) };
        let mut response = told(code, object);
        if let Some(outcome) = outcome {
            response.headers_mut().insert(OUTCOME, HeaderValue::from_static(outcome));
        }
        for warning in warnings {
            let text: String = warning
                .chars()
                .filter(|c| !c.is_control())
                .flat_map(|c| match c {
                    '"' | '\\' => vec!['\\', c],
                    other => vec![other],
                })
                .collect();
            if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
                response.headers_mut().append(WARNING, value);
            }
        }
        Ok(response)
    }

    async fn write_ours(&self, kind: Kind, call: &Call, body: Body) -> Result<Wrote, Status> {
        let object = call.ours(kind);
        let (write, value) = match call.verb {
            Verb::Delete => {
                let deletion = Deletion::from_options(&object, &call.deletion(body).await?)?;
                let deletion = Deletion { dry_run: deletion.dry_run || call.query.dry_run, ..deletion };
                return Ok(Wrote::deleted(call, self.objects.delete(&object, &deletion).await?));
            }
            Verb::DeleteCollection => return self.delete_all(kind, call, body).await,
            Verb::Create if call.objects.part == Part::Login => return self.login(call, kind).await,
            Verb::Create => {
                self.open(call.namespace())?;
                (Write::Create, body::object(&call.headers, body).await?)
            }
            Verb::Update => (Write::Replace, body::object(&call.headers, body).await?),
            Verb::Patch => {
                let media = negotiate::patch(&call.headers)?;
                let bytes = body::whole(body).await?;
                match media {
                    Media::MergePatch => (Write::MergePatch, body::json(&bytes)?),
                    Media::JsonPatch => (Write::JsonPatch, body::json(&bytes)?),
                    Media::Apply => (Write::Apply { force: call.query.force }, body::yaml(&bytes)?),
                    Media::Manifest => (Write::Describe, body::json(&bytes)?),
                    Media::Json | Media::Yaml | Media::Protobuf => return Err(negotiate::no_patch(&call.headers)),
                }
            }
            Verb::Get | Verb::List | Verb::Watch => return Err(Status::no_verb("that is no write")),
        };
        if let Write::Apply { .. } | Write::Describe = write {
            self.open(call.namespace())?;
        }
        let subresource = match call.objects.part {
            Part::Whole | Part::Login => None,
            Part::Status => Some(Subresource::Status),
            Part::Scale => Some(Subresource::Scale),
        };
        // Whoever applies says who they are; of others it is known by the program that they are.
        let manager = match write {
            Write::Apply { .. } => call.query.manager.clone(),
            _ => call.query.manager.clone().or_else(|| call.program()),
        };
        let terms = Terms {
            dry_run: call.query.dry_run,
            field_validation: call.query.validation,
            field_manager: manager,
            revision: call.query.revision.filter(|_| write == Write::Describe),
            ..Terms::default()
        };
        let request = Request { object, verb: write, subresource, body: value, terms };
        Ok(self.objects.write(&request).await?.into())
    }

    /// Deletes what is selected, one by one, and tells what that was.
    async fn delete_all(&self, kind: Kind, call: &Call, body: Body) -> Result<Wrote, Status> {
        let options = call.deletion(body).await?;
        let (names, revision) = self.names(call).await?;
        let mut deleted = Vec::new();
        for name in names {
            let object = ObjectRef { name, ..call.ours(kind) };
            let deletion = Deletion::from_options(&object, &options)?;
            let deletion = Deletion { dry_run: deletion.dry_run || call.query.dry_run, ..deletion };
            match self.objects.delete(&object, &deletion).await {
                Ok(one) => deleted.push(one.object),
                Err(crate::api::objects::ObjectError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let head = json!({ "resourceVersion": revision.to_string() });
        let list =
            json!({ "kind": format!("{kind}List"), "apiVersion": API_VERSION, "metadata": head, "items": deleted });
        Ok(Wrote::done(list))
    }

    /// Tells a login. It is marked as read before it is told: whoever asks again is refused.
    async fn login(&self, call: &Call, kind: Kind) -> Result<Wrote, Status> {
        let Login { container, username, password, port, expires_at } = self.api.login_once(&call.ours(kind)).await?;
        Ok(Wrote::done(json!({
            "apiVersion": API_VERSION,
            "kind": "Login",
            "container": container,
            "username": username,
            "password": password.expose_secret(),
            "port": port,
            "expiresAt": expires_at,
        })))
    }

    /// Whether something can be made in a namespace: not while its end is wished for.
    fn open(&self, name: &str) -> Result<(), Status> {
        match self.plain.get(&namespace(name)) {
            Ok(record) if !record["metadata"]["deletionTimestamp"].is_null() => {
                Err(Status::forbidden(format!("namespace {name} is being deleted: nothing can be made in it")))
            }
            Ok(_) | Err(PlainError::NotFound(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn write_plain(&self, kind: PlainKind, call: &Call, body: Body) -> Result<Wrote, Status> {
        let (object, dry_run) = (call.plain(kind), call.query.dry_run);
        match call.verb {
            Verb::Create => {
                if kind.namespaced() {
                    self.open(call.namespace())?;
                }
                let value = body::object(&call.headers, body).await?;
                fits(call, kind, &value)?;
                Ok(Wrote::made(self.plain.create(kind, call.namespace(), value, dry_run).await?))
            }
            Verb::Update => {
                let value = body::object(&call.headers, body).await?;
                fits(call, kind, &value)?;
                Ok(Wrote::done(self.plain.edit(&object, &Edit::Replace(value), dry_run).await?))
            }
            Verb::Patch => {
                let form = negotiate::plain_patch(&call.headers)?;
                let bytes = body::whole(body).await?;
                let edit = match form {
                    PlainPatch::Merge => Edit::Merge(body::json(&bytes)?),
                    PlainPatch::Strategic => Edit::Strategic(body::json(&bytes)?),
                    PlainPatch::Json => Edit::Patch(body::json(&bytes)?),
                    PlainPatch::Apply => return self.apply_plain(kind, call, body::yaml(&bytes)?).await,
                };
                Ok(Wrote::done(self.plain.edit(&object, &edit, dry_run).await?))
            }
            Verb::Delete => {
                let options = call.deletion(body).await?;
                let gone = self.delete_plain(&object, &options, dry_run).await?;
                Ok(Wrote::done(gone))
            }
            Verb::DeleteCollection => {
                let options = call.deletion(body).await?;
                let (names, revision) = self.names(call).await?;
                let mut deleted = Vec::new();
                for name in names {
                    let object = PlainRef { name, ..object.clone() };
                    match self.delete_plain(&object, &options, dry_run).await {
                        Ok(gone) => deleted.push(gone),
                        Err(PlainError::NotFound(_)) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                let head = json!({ "resourceVersion": revision.to_string() });
                let name = format!("{}List", kind.kind());
                let list =
                    json!({ "kind": name, "apiVersion": kind.api_version(), "metadata": head, "items": deleted });
                Ok(Wrote::done(list))
            }
            Verb::Get | Verb::List | Verb::Watch => Err(Status::no_verb("that is no write")),
        }
    }

    async fn apply_plain(&self, kind: PlainKind, call: &Call, wanted: Value) -> Result<Wrote, Status> {
        if wanted["metadata"]["name"] != call.name() {
            return Err(Status::bad_request("metadata.name: write the name that the path has"));
        }
        fits(call, kind, &wanted)?;
        if kind.namespaced() {
            self.open(call.namespace())?;
        }
        let (object, made) = self.plain.apply(&call.plain(kind), &wanted, call.query.dry_run).await?;
        Ok(if made { Wrote::made(object) } else { Wrote::done(object) })
    }

    async fn delete_plain(&self, object: &PlainRef, options: &Value, dry_run: bool) -> Result<Value, PlainError> {
        let text = |name: &str| options["preconditions"][name].as_str().map(str::to_owned);
        let conditions = Preconditions { uid: text("uid"), resource_version: text("resourceVersion") };
        let dry_run = dry_run || options["dryRun"].as_array().is_some_and(|words| !words.is_empty());
        self.plain.delete(object, &conditions, dry_run).await
    }

    /// Events are kept in one form, whichever they come in.
    async fn write_event(&self, face: crate::api::events::Face, call: &Call, body: Body) -> Answer {
        let (object, dry_run) = (call.plain(PlainKind::Event), call.query.dry_run);
        let (code, event) = match call.verb {
            Verb::Create => {
                self.open(call.namespace())?;
                let value = body::object(&call.headers, body).await?;
                let event = face.to_core(value);
                (StatusCode::CREATED, self.plain.create(PlainKind::Event, call.namespace(), event, dry_run).await?)
            }
            Verb::Update => {
                let value = face.to_core(body::object(&call.headers, body).await?);
                (StatusCode::OK, self.plain.edit(&object, &Edit::Replace(value), dry_run).await?)
            }
            Verb::Patch => {
                // Fields are renamed at the top, where a merge patch has them too.
                let edit = match negotiate::plain_patch(&call.headers)? {
                    PlainPatch::Merge => Edit::Merge,
                    PlainPatch::Strategic => Edit::Strategic,
                    PlainPatch::Json | PlainPatch::Apply => return Err(negotiate::no_patch(&call.headers)),
                };
                let value = face.to_core(body::json(&body::whole(body).await?)?);
                (StatusCode::OK, self.plain.edit(&object, &edit(value), dry_run).await?)
            }
            Verb::Delete => {
                let options = call.deletion(body).await?;
                (StatusCode::OK, self.delete_plain(&object, &options, dry_run).await?)
            }
            Verb::DeleteCollection | Verb::Get | Verb::List | Verb::Watch => {
                return Err(Status::no_verb("events are deleted by name"));
            }
        };
        Ok((code, Json(face.of_core(event))).into_response())
    }
}

/// Whether a body is about what its path is about.
fn fits(call: &Call, kind: PlainKind, body: &Value) -> Result<(), Status> {
    let said = |value: &Value, right: &str| value.as_str().is_none_or(|said| said.is_empty() || said == right);
    let meta = &body["metadata"];
    for (name, value, right) in [
        ("kind", &body["kind"], kind.kind()),
        ("apiVersion", &body["apiVersion"], kind.api_version()),
        ("metadata.namespace", &meta["namespace"], call.namespace()),
        (
            "metadata.name",
            &meta["name"],
            call.objects.name.as_deref().unwrap_or(meta["name"].as_str().unwrap_or_default()),
        ),
    ] {
        if !said(value, right) {
            return Err(Status::bad_request(format!("{name}: the body says {value}, and the path '{right}'")));
        }
    }
    Ok(())
}

impl Call {
    /// The options of a deletion, from its body and its query.
    async fn deletion(&self, body: Body) -> Result<Value, Status> {
        let mut options = body::options(&self.headers, body).await?;
        if !options.is_object() && !options.is_null() {
            return Err(Status::bad_request("the body of a deletion is no DeleteOptions: write a map"));
        }
        if let Some(policy) = &self.query.propagation
            && options["propagationPolicy"].is_null()
        {
            if options.is_null() {
                options = json!({});
            }
            options["propagationPolicy"] = policy.clone().into();
        }
        Ok(options)
    }

    /// The program that asks, by its own word.
    fn program(&self) -> Option<String> {
        let agent = self.headers.get(USER_AGENT)?.to_str().ok()?;
        let name: String = agent.split('/').next()?.chars().filter(|c| !c.is_control()).take(128).collect();
        Some(name).filter(|name| !name.is_empty())
    }
}

/// What a write came to.
struct Wrote {
    code: StatusCode,
    object: Value,
    outcome: Option<&'static str>,
    warnings: Vec<String>,
}

impl Wrote {
    fn made(object: Value) -> Wrote {
        Wrote { code: StatusCode::CREATED, ..Wrote::done(object) }
    }

    fn done(object: Value) -> Wrote {
        Wrote { code: StatusCode::OK, object, outcome: None, warnings: vec![] }
    }

    /// What is gone is told by a Status, and what is still going as it is.
    fn deleted(call: &Call, Deleted { gone, object }: Deleted) -> Wrote {
        if !gone {
            return Wrote::done(object);
        }
        let resource = call.objects.resource;
        let uid = &object["metadata"]["uid"];
        let details = json!({ "name": call.name(), "group": resource.group(), "kind": resource.plural(), "uid": uid });
        Wrote::done(
            json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details }),
        )
    }
}

impl From<Written> for Wrote {
    fn from(Written { outcome, object, warnings }: Written) -> Self {
        let (code, word) = match outcome {
            Outcome::Created => (StatusCode::CREATED, "created"),
            Outcome::Configured => (StatusCode::OK, "configured"),
            Outcome::Unchanged => (StatusCode::OK, "unchanged"),
        };
        Wrote { code, object, outcome: Some(word), warnings }
    }
}
