//! What a request is about: its path and verb, as data. Pure.

use axum::http::Method;

use super::status::Status;
use crate::api::access::{Attributes, Verb};
use crate::api::events::Face;
use crate::api::plain::{PlainKind, valid_plain_name};
use crate::model::{GROUP, Kind, valid_name};

/// The most parts of a path; no path of ours has as many.
const MOST_PARTS: usize = 12;

/// Everything that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Whether it lives.
    Health,
    /// Which version it is.
    Version,
    /// The versions of Kubernetes' own group, or all groups with everything in them.
    Api,
    /// All groups.
    Apis,
    /// The versions of a group.
    Group(String),
    /// The resources of a version.
    Resources(String),
    /// Which OpenAPI documents there are.
    OpenApi,
    /// The OpenAPI document of a version.
    OpenApiOf(String),
    /// The document of the older form.
    OpenApi2,
    /// Objects.
    Objects(Objects),
}

/// Which objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Objects {
    /// Of which kind.
    pub(super) resource: Resource,
    /// In which namespace.
    pub(super) namespace: Option<String>,
    /// Of which name.
    pub(super) name: Option<String>,
    /// Which part of it.
    pub(super) part: Part,
}

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Resource {
    /// What the operator works for.
    Ours(Kind),
    /// What is kept for clients.
    Plain(PlainKind),
    /// What happened.
    Events(Face),
    /// What a client asks about itself.
    Review(Review),
    /// The daemon's own log, by number.
    Log,
    /// Who may come in.
    Tokens,
    /// Who is served over the wire protocol.
    AccessTokens,
}

/// What a client can ask about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Review {
    /// Who it is.
    Subject,
    /// Whether it may.
    Access,
    /// What it may.
    Rules,
}

/// A part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// Its status alone.
    Status,
    /// How many replicas of it there are.
    Scale,
    /// Its login.
    Login,
}

impl Part {
    /// As it stands in a path.
    pub(super) fn name(self) -> &'static str {
        match self {
            Part::Whole => "",
            Part::Status => "status",
            Part::Scale => "scale",
            Part::Login => "login",
        }
    }
}

impl Resource {
    /// All that are told of in discovery.
    pub(super) fn published() -> impl Iterator<Item = Resource> {
        let ours = Kind::ALL.into_iter().map(Resource::Ours);
        let plain = [PlainKind::Namespace, PlainKind::Secret, PlainKind::Lease].map(Resource::Plain);
        let events = [Face::Core, Face::Events].map(Resource::Events);
        let reviews = [Review::Subject, Review::Access, Review::Rules].map(Resource::Review);
        ours.chain(plain).chain(events).chain(reviews)
    }

    /// Its group; empty: Kubernetes' own.
    pub(super) fn group(self) -> &'static str {
        match self {
            Resource::Ours(_) | Resource::Log | Resource::Tokens | Resource::AccessTokens => GROUP,
            Resource::Plain(kind) => kind.group(),
            Resource::Events(Face::Core) => "",
            Resource::Events(Face::Events) => "events.k8s.io",
            Resource::Review(Review::Subject) => "authentication.k8s.io",
            Resource::Review(Review::Access | Review::Rules) => "authorization.k8s.io",
        }
    }

    /// Its group and version.
    pub(super) fn api_version(self) -> String {
        match (self.group(), self) {
            (_, Resource::Ours(_) | Resource::Log | Resource::Tokens | Resource::AccessTokens) => {
                crate::model::API_VERSION.into()
            }
            ("", _) => "v1".into(),
            (group, _) => format!("{group}/v1"),
        }
    }

    /// Its name in a path.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Resource::Ours(kind) => kind.plural(),
            Resource::Plain(kind) => kind.plural(),
            Resource::Events(_) | Resource::Log => "events",
            Resource::Review(Review::Subject) => "selfsubjectreviews",
            Resource::Review(Review::Access) => "selfsubjectaccessreviews",
            Resource::Review(Review::Rules) => "selfsubjectrulesreviews",
            Resource::Tokens => "tokens",
            Resource::AccessTokens => "accesstokens",
        }
    }

    /// The name of its kind.
    pub(super) fn kind(self) -> String {
        match self {
            Resource::Ours(kind) => kind.to_string(),
            Resource::Plain(kind) => kind.kind().into(),
            Resource::Events(_) | Resource::Log => "Event".into(),
            Resource::Review(Review::Subject) => "SelfSubjectReview".into(),
            Resource::Review(Review::Access) => "SelfSubjectAccessReview".into(),
            Resource::Review(Review::Rules) => "SelfSubjectRulesReview".into(),
            Resource::Tokens => "Token".into(),
            Resource::AccessTokens => "AccessToken".into(),
        }
    }

    /// Whether its objects are in namespaces.
    pub(super) fn namespaced(self) -> bool {
        match self {
            Resource::Ours(_) | Resource::Events(_) => true,
            Resource::Plain(kind) => kind.namespaced(),
            Resource::Review(_) | Resource::Log | Resource::Tokens | Resource::AccessTokens => false,
        }
    }

    /// What can be asked of it.
    pub(super) fn verbs(self) -> &'static [Verb] {
        match self {
            Resource::Ours(_) | Resource::Plain(_) => &Verb::ALL,
            Resource::Events(_) => {
                &[Verb::Create, Verb::Delete, Verb::Get, Verb::List, Verb::Patch, Verb::Update, Verb::Watch]
            }
            Resource::Review(_) => &[Verb::Create],
            Resource::Log => &[Verb::List, Verb::Watch],
            Resource::Tokens => &[Verb::List, Verb::Create, Verb::Delete],
            Resource::AccessTokens => &[Verb::List, Verb::Create, Verb::Patch, Verb::Delete],
        }
    }

    /// The parts that can be asked for by themselves.
    pub(super) fn parts(self) -> &'static [Part] {
        match self {
            Resource::Ours(Kind::ContainerPool) => &[Part::Status, Part::Scale],
            Resource::Ours(Kind::Container | Kind::ContainerClaim) => &[Part::Status, Part::Login],
            Resource::Plain(_)
            | Resource::Events(_)
            | Resource::Review(_)
            | Resource::Log
            | Resource::Tokens
            | Resource::AccessTokens => &[],
        }
    }

    fn find(group: &str, version: &str, plural: &str) -> Option<Resource> {
        let all = Resource::published().chain([Resource::Log, Resource::Tokens, Resource::AccessTokens]);
        let wanted = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let mut all = all.filter(|resource| resource.plural() == plural);
        all.find(|resource| resource.api_version() == wanted)
    }
}

impl Objects {
    /// The attributes that a permission depends on.
    pub(super) fn attributes(&self, verb: Verb) -> Attributes<'_> {
        Attributes {
            verb,
            group: self.resource.group(),
            resource: self.resource.plural(),
            subresource: self.part.name(),
            namespace: self.namespace.as_deref(),
            name: self.name.as_deref(),
        }
    }

    /// What a method asks of them.
    pub(super) fn verb(&self, method: &Method, watch: bool) -> Result<Verb, Status> {
        let verb = match (method, &self.name) {
            (&Method::GET | &Method::HEAD, None) if watch => Verb::Watch,
            (&Method::GET | &Method::HEAD, None) => Verb::List,
            (&Method::GET | &Method::HEAD, Some(_)) => Verb::Get,
            (&Method::POST, None) => Verb::Create,
            (&Method::POST, Some(_)) if self.part == Part::Login => Verb::Create,
            (&Method::PUT, Some(_)) => Verb::Update,
            (&Method::PATCH, Some(_)) => Verb::Patch,
            (&Method::DELETE, Some(_)) => Verb::Delete,
            (&Method::DELETE, None) => Verb::DeleteCollection,
            _ => return Err(self.no_verb()),
        };
        let part = match self.part {
            Part::Whole => self.resource.verbs().contains(&verb),
            Part::Status | Part::Scale => matches!(verb, Verb::Get | Verb::Update | Verb::Patch),
            Part::Login => verb == Verb::Create,
        };
        // Objects are made where they are to be.
        let somewhere = self.namespace.is_some() || !self.resource.namespaced() || verb.reads();
        if part && somewhere { Ok(verb) } else { Err(self.no_verb()) }
    }

    fn no_verb(&self) -> Status {
        Status::no_verb(format!("{} does not take that verb here", self.resource.plural()))
    }
}

/// Takes a path apart. A path that leads nowhere is `404`, and one with a name that is none is `400`.
pub(super) fn parse(path: &str) -> Result<Target, Status> {
    let nowhere = || Status::not_found("the server could not find the requested resource");
    let mut parts = Vec::new();
    for part in path.strip_prefix('/').ok_or_else(nowhere)?.split('/').take(MOST_PARTS + 1) {
        parts.push(decoded(part).ok_or_else(|| Status::bad_request("the path is no text in UTF-8"))?);
    }
    // Many clients end paths with a slash.
    if parts.last().is_some_and(String::is_empty) {
        parts.pop();
    }
    if parts.len() > MOST_PARTS || parts.iter().any(String::is_empty) {
        return Err(nowhere());
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["healthz" | "livez" | "readyz"] => Ok(Target::Health),
        ["version"] => Ok(Target::Version),
        ["openapi", "v3"] => Ok(Target::OpenApi),
        ["openapi", "v2"] => Ok(Target::OpenApi2),
        ["openapi", "v3", "api", version] => Ok(Target::OpenApiOf((*version).into())),
        ["openapi", "v3", "apis", group, version] => Ok(Target::OpenApiOf(format!("{group}/{version}"))),
        ["api"] => Ok(Target::Api),
        ["apis"] => Ok(Target::Apis),
        ["api", version] => Ok(Target::Resources((*version).into())),
        ["apis", group] => Ok(Target::Group((*group).into())),
        ["apis", group, version] => Ok(Target::Resources(format!("{group}/{version}"))),
        ["api", version, rest @ ..] => objects("", version, rest),
        ["apis", group, version, rest @ ..] if !group.is_empty() => objects(group, version, rest),
        _ => Err(nowhere()),
    }
}

fn objects(group: &str, version: &str, rest: &[&str]) -> Result<Target, Status> {
    let nowhere = |plural: &str| {
        let known: Vec<&str> = Resource::published().filter(|r| r.group() == group).map(Resource::plural).collect();
        match known.as_slice() {
            [] => Status::not_found("the server could not find the requested resource"),
            known => Status::not_found(format!("there is no resource '{plural}': there are {}", known.join(", "))),
        }
    };
    // `namespaces/NAME` is an object, and with more behind it a place.
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => {
            valid_name(namespace).map_err(|error| Status::bad_request(format!("namespace: {error}")))?;
            (Some((*namespace).to_owned()), rest)
        }
        rest => (None, rest),
    };
    let [plural, rest @ ..] = rest else { return Err(nowhere("")) };
    let resource = Resource::find(group, version, plural).ok_or_else(|| nowhere(plural))?;
    let (name, part) = match rest {
        [] => (None, Part::Whole),
        [name] => (Some(*name), Part::Whole),
        [name, part] => {
            let found = resource.parts().iter().find(|known| known.name() == *part);
            let known = found.ok_or_else(|| no_part(plural, part))?;
            (Some(*name), *known)
        }
        _ => return Err(nowhere(plural)),
    };
    if namespace.is_some() != resource.namespaced() && (namespace.is_some() || name.is_some()) {
        return Err(nowhere(plural));
    }
    if let Some(name) = name {
        match resource {
            Resource::Ours(_) | Resource::Tokens | Resource::AccessTokens => {
                valid_name(name).map_err(|error| Status::bad_request(error.to_string()))?;
            }
            Resource::Plain(_) | Resource::Events(_) | Resource::Review(_) | Resource::Log => {
                if !valid_plain_name(name) {
                    return Err(Status::bad_request(
                        "the path has no name where one has to be: write lower-case letters, digits, '-' and '.'",
                    ));
                }
            }
        }
    }
    Ok(Target::Objects(Objects { resource, namespace, name: name.map(str::to_owned), part }))
}

/// A part that its objects do not have.
fn no_part(plural: &str, part: &str) -> Status {
    let has = |resource: &Resource| resource.parts().iter().any(|known| known.name() == part);
    let others: Vec<&str> = Resource::published().filter(has).map(Resource::plural).collect();
    let hint = if others.is_empty() { String::new() } else { format!(": only {} have", others.join(", ")) };
    Status::not_found(format!("{plural} have no part '{part}'{hint}"))
}

/// A part of a path without its percent signs.
fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> Objects {
        match parse(path) {
            Ok(Target::Objects(objects)) => objects,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn paths_of_objects_are_taken_apart() {
        let pool = at("/apis/anweddol.io/v1alpha1/namespaces/red/containerpools/a/scale");
        let (resource, part) = (Resource::Ours(Kind::ContainerPool), Part::Scale);
        assert_eq!(pool, Objects { resource, namespace: Some("red".into()), name: Some("a".into()), part });
        assert_eq!(at("/apis/anweddol.io/v1alpha1/containers").namespace, None);
        assert_eq!(at("/api/v1/namespaces/red").name.as_deref(), Some("red"));
        assert_eq!(at("/api/v1/namespaces/").name, None);
        assert_eq!(at("/api/v1/namespaces/red/events").resource, Resource::Events(Face::Core));
        assert_eq!(at("/apis/events.k8s.io/v1/events").resource, Resource::Events(Face::Events));
        assert_eq!(at("/apis/anweddol.io/v1alpha1/events").resource, Resource::Log);
        assert_eq!(
            at("/api/v1/namespaces/red/secrets/sh.helm.release.v1.a.v1").name.as_deref().map(str::len),
            Some(23)
        );
    }

    #[test]
    fn tricks_with_paths_lead_nowhere() {
        let root = "/apis/anweddol.io/v1alpha1/namespaces";
        for (path, code) in [
            ("", 404),
            ("x", 404),
            ("//", 404),
            ("/apis//v1alpha1/containers", 404),
            ("/apis/anweddol.io/v1alpha1//containers", 404),
            (&format!("{root}/../containers") as &str, 400),
            (&format!("{root}/%2e%2e/containers/a"), 400),
            (&format!("{root}/red/containers/..%2Fb"), 400),
            (&format!("{root}/red/containers/a%00"), 400),
            (&format!("{root}/red/containers/%ff"), 400),
            (&format!("{root}/red/containers/%zz"), 400),
            (&format!("{root}/red/containers/a/exec"), 404),
            (&format!("{root}/red/containers/a/scale"), 404),
            (&format!("{root}/red/pods"), 404),
            (&format!("{root}/red/containers/a/status/b"), 404),
            ("/apis/anweddol.io/v1alpha1/containers/a", 404),
            ("/api/v1/namespaces/a/namespaces/b", 404),
            ("/apis/anweddol.io/v1/containers", 404),
            (&"/a".repeat(5000), 404),
        ] {
            let said = parse(path).unwrap_err();
            assert_eq!(said.code(), code, "{path}: {said:?}");
        }
    }

    #[test]
    fn methods_are_verbs_where_they_make_sense() {
        let root = "/apis/anweddol.io/v1alpha1/namespaces/red/containers";
        for (method, path, watch, verb) in [
            (Method::GET, root.to_owned(), false, Some(Verb::List)),
            (Method::GET, root.to_owned(), true, Some(Verb::Watch)),
            (Method::POST, root.to_owned(), false, Some(Verb::Create)),
            (Method::POST, format!("{root}/a"), false, None),
            (Method::POST, format!("{root}/a/login"), false, Some(Verb::Create)),
            // Whoever may only read cannot have a login by reading.
            (Method::GET, format!("{root}/a/login"), false, None),
            (Method::DELETE, format!("{root}/a/status"), false, None),
            (Method::PATCH, format!("{root}/a/status"), false, Some(Verb::Patch)),
            (Method::DELETE, root.to_owned(), false, Some(Verb::DeleteCollection)),
            (Method::DELETE, "/apis/anweddol.io/v1alpha1/containers".to_owned(), false, None),
            (Method::POST, "/apis/anweddol.io/v1alpha1/containers".to_owned(), false, None),
            (Method::OPTIONS, root.to_owned(), false, None),
            (Method::GET, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(), false, None),
        ] {
            assert_eq!(at(&path).verb(&method, watch).ok(), verb, "{method} {path}");
        }
    }
}
