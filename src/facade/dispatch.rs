//! Calls the handlers of events, each at its moment.
//!
//! Every call is a task of its own: whoever waits for it may go away without cutting it short, and a panic in it is an
//! event and concerns nobody else.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::events::{self, EventHandlers, Payload};
use crate::api::{Api, Review};
use crate::guest::{EndpointShellInstance, OpenShell, Opened, ShellObserver};
use crate::model::{Container, Event, EventKind};
use crate::plan::clock::Clock;
use crate::server::container::ContainerInstance;
use crate::server::events::Bus;
use crate::server::{ClientInstance, EventSink, Lifecycle, Moment, Party, panic_text};

/// How long DESTROY waits for a `DESTROYED_CONTAINER` handler, and a stop for those that still run.
pub(super) const HANDLER_PATIENCE: Duration = Duration::from_secs(10);

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Done,
    Panicked,
}

/// The last client that had to do with a container.
#[derive(Clone)]
struct Affiliated {
    client: Weak<ClientInstance>,
    /// Cancelled when everybody was told of the container's end.
    told: CancellationToken,
}

pub(super) struct Dispatcher {
    me: Weak<Dispatcher>,
    pub(super) bus: Bus,
    handlers: EventHandlers,
    runtime: Handle,
    tasks: TaskTracker,
    api: OnceLock<Arc<Api>>,
    affiliated: Mutex<HashMap<Uuid, Affiliated>>,
}

impl Dispatcher {
    pub(super) fn new(handlers: EventHandlers, clock: Clock, runtime: Handle) -> Arc<Self> {
        Arc::new_cyclic(|me| Dispatcher {
            me: me.clone(),
            bus: Bus::new(clock),
            handlers,
            runtime,
            tasks: TaskTracker::new(),
            api: OnceLock::new(),
            affiliated: Mutex::default(),
        })
    }

    /// Before the first client.
    pub(super) fn set_api(&self, api: Arc<Api>) {
        self.api.set(api).ok();
    }

    /// Whom to show endpoint shells: nobody, where nobody wants to see them.
    pub(super) fn observer(self: &Arc<Self>) -> Option<Arc<dyn ShellObserver>> {
        self.handlers.has(EventKind::CreatedEndpointShell).then(|| Arc::clone(self) as _)
    }

    /// An event of the log, with the last record of a container that ended with it.
    pub(super) fn committed(&self, event: Event, ended: Option<Container>) {
        self.bus.emit(event.clone());
        let uuid = event.details.get("container_uuid").and_then(Value::as_str).and_then(|uuid| uuid.parse().ok());
        let over = event.kind == EventKind::DestroyedContainer;
        let known = uuid.and_then(|uuid: Uuid| match over {
            true => self.affiliated().remove(&uuid),
            false => self.affiliated().get(&uuid).cloned(),
        });
        // Dropped when everybody was told of its end, or when nobody can be.
        let told = known.as_ref().filter(|_| over).map(|known| known.told.clone().drop_guard());
        let client = known.and_then(|known| known.client.upgrade());
        let client = client.or_else(|| Some(ClientInstance::gone(event.client.clone()?, event.at)));
        let payload = match (event.kind, ended, self.api.get()) {
            (EventKind::DestroyedContainer, Some(record), Some(api)) => {
                let container_instance = ContainerInstance::new(Arc::clone(api), record);
                let payload = events::DestroyedContainer { client_instance: client, container_instance };
                Payload::DestroyedContainer(payload)
            }
            (EventKind::RuntimeError, ..) => Payload::RuntimeError(runtime_error(&event, client)),
            // The others are told at their moment.
            _ => return,
        };
        let call = self.call(payload);
        self.tasks.spawn_on(
            async move {
                call.await;
                drop(told);
            },
            &self.runtime,
        );
    }

    /// Says that the server stopped, and waits until the handlers are done.
    pub(super) async fn stopped(&self) {
        let event = Event::new(EventKind::Stopped, self.now());
        self.at(Moment { event, party: Party::Nobody }).await;
        self.tasks.close();
        if timeout(HANDLER_PATIENCE, self.tasks.wait()).await.is_err() {
            tracing::warn!(handlers = self.tasks.len(), "event handlers still run");
        }
    }

    /// Calls the handler of an event, if there is one.
    fn call(&self, payload: Payload) -> BoxFuture<'static, Ended> {
        let kind = payload.event();
        let (Some(handler), Some(me)) = (self.handlers.get(kind).cloned(), self.me.upgrade()) else {
            return futures::future::ready(Ended::Done).boxed();
        };
        let call = async move {
            let client = client_of(&payload);
            let work = AssertUnwindSafe(async move { handler(payload).await }).catch_unwind();
            let Err(panic) = work.await else { return Ended::Done };
            let mut event = Event::new(EventKind::RuntimeError, me.now())
                .message(format!("the handler of {} panicked: {}", kind.name(), panic_text(&*panic)))
                .detail("name", kind.name())
                .detail("error", "Panic");
            event.client = client.as_ref().map(|client| client.client().clone());
            match kind {
                // It would be told of itself for ever.
                EventKind::RuntimeError => me.bus.emit(event),
                _ => me.at(Moment { event, party: client.map_or(Party::Nobody, Party::Client) }).await,
            }
            Ended::Panicked
        };
        let task = self.tasks.spawn_on(call, &self.runtime);
        // Only a runtime that is shut down ends it otherwise.
        async move { task.await.unwrap_or(Ended::Panicked) }.boxed()
    }

    fn affiliated(&self) -> MutexGuard<'_, HashMap<Uuid, Affiliated>> {
        self.affiliated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn affiliate(&self, container: Uuid, client: &Arc<ClientInstance>) -> CancellationToken {
        let told = CancellationToken::new();
        let affiliated = Affiliated { client: Arc::downgrade(client), told: told.clone() };
        self.affiliated().insert(container, affiliated);
        told
    }
}

impl EventSink for Dispatcher {
    fn now(&self) -> Timestamp {
        self.bus.now()
    }

    fn emit(&self, event: Event) {
        // Handlers run as tasks, whether somebody waits for them or not.
        drop(self.at(Moment { event, party: Party::Nobody }));
    }

    fn at(&self, moment: Moment) -> BoxFuture<'static, ()> {
        let payload = payload(&moment);
        self.bus.emit(moment.event);
        match payload {
            Some(payload) => self.call(payload).map(drop).boxed(),
            None => futures::future::ready(()).boxed(),
        }
    }
}

impl Lifecycle for Dispatcher {
    fn review(&self, client: &Arc<ClientInstance>) -> Option<Review> {
        let wanted = [EventKind::CreatedContainer, EventKind::CreatedEndpointShell, EventKind::DestroyedContainer];
        if !wanted.into_iter().any(|kind| self.handlers.has(kind)) {
            return None;
        }
        let (me, api, client) = (self.me.upgrade()?, Arc::clone(self.api.get()?), Arc::clone(client));
        Some(Box::new(move |record| {
            me.affiliate(record.uuid(), &client);
            let container = ContainerInstance::new(api, record);
            let payload = events::CreatedContainer {
                client_instance: Arc::clone(&client),
                container_instance: Arc::clone(&container),
            };
            async move {
                match me.call(Payload::CreatedContainer(payload)).await {
                    Ended::Panicked => Err("its CREATED_CONTAINER handler panicked".to_owned()),
                    Ended::Done if client.is_closed() => Err("its client was closed".to_owned()),
                    Ended::Done => Ok(container.settle()),
                }
            }
            .boxed()
        }))
    }

    fn destroying(&self, client: &Arc<ClientInstance>, container: Uuid) -> BoxFuture<'static, ()> {
        match self.me.upgrade() {
            Some(me) if self.handlers.has(EventKind::DestroyedContainer) => {
                let told = self.affiliate(container, client);
                async move {
                    // It may have ended by itself just before.
                    timeout(HANDLER_PATIENCE, told.cancelled()).await.ok();
                    me.affiliated().remove(&container);
                }
                .boxed()
            }
            _ => futures::future::ready(()).boxed(),
        }
    }
}

impl ShellObserver for Dispatcher {
    fn opened(&self, container: Uuid, shell: Box<dyn OpenShell>) -> BoxFuture<'static, Opened> {
        let shell = EndpointShellInstance::new(container, shell);
        let client = self.affiliated().get(&container).and_then(|known| known.client.upgrade());
        let record = self.api.get().and_then(|api| Some((Arc::clone(api), api.container(container).ok()??)));
        let Some((api, record)) = record else { return futures::future::ready(Opened::Closed).boxed() };
        let called = self.call(Payload::CreatedEndpointShell(events::CreatedEndpointShell {
            endpoint_shell_instance: Arc::clone(&shell),
            container_instance: ContainerInstance::new(Arc::clone(&api), record),
            client_instance: client,
        }));
        async move {
            if called.await == Ended::Panicked {
                shell.close().await;
            }
            let opened = shell.take_back().await;
            // Recorded before they are set: after a crash in between, they still are its credentials.
            if let Opened::GoOn(_, Some(chosen)) = &opened
                && let Err(error) = api.set_credentials(container, &chosen.username, &chosen.password).await
            {
                tracing::error!(%container, error = crate::error_chain(&error), "credentials cannot be recorded");
                return Opened::Closed;
            }
            opened
        }
        .boxed()
    }
}

/// What the handler of a moment is given; nothing for events that are told elsewhere.
fn payload(moment: &Moment) -> Option<Payload> {
    let event = &moment.event;
    let client = match &moment.party {
        Party::Client(client) => Some(Arc::clone(client)),
        Party::Socket(_) | Party::Nobody => None,
    };
    Some(match event.kind {
        EventKind::Client => Payload::Client(events::Client { client_instance: client? }),
        EventKind::ClientClosed => Payload::ClientClosed(events::ClientClosed { client_instance: client? }),
        EventKind::Connection => match &moment.party {
            Party::Socket(socket) => Payload::Connection(events::Connection { client_socket: socket.clone() }),
            Party::Client(_) | Party::Nobody => return None,
        },
        EventKind::MalformedRequest => Payload::MalformedRequest(events::MalformedRequest {
            client_instance: client?,
            cerberus_error_dict: event.details.get("errors").and_then(Value::as_object).cloned().unwrap_or_default(),
        }),
        EventKind::Request => Payload::Request(events::Request { client_instance: client? }),
        EventKind::RuntimeError => Payload::RuntimeError(runtime_error(event, client)),
        EventKind::Started => Payload::Started(events::Started),
        EventKind::Stopped => Payload::Stopped(events::Stopped),
        EventKind::UnknownVerb => Payload::UnknownVerb(events::UnknownVerb { client_instance: client? }),
        EventKind::CreatedContainer
        | EventKind::CreatedEndpointShell
        | EventKind::DestroyedContainer
        | EventKind::ReadyContainer
        | EventKind::BoundClaim
        | EventKind::FailedContainer
        | EventKind::Adopted
        | EventKind::AdoptionRefused
        | EventKind::ForwardAdded
        | EventKind::ForwardRemoved
        | EventKind::LostClaim
        | EventKind::FailedClaim
        | EventKind::Expiring
        | EventKind::Expired
        | EventKind::ExtendedClaim
        | EventKind::AppliedObject
        | EventKind::DeletedObject
        | EventKind::RefusedManifest
        | EventKind::UpdatingPool
        | EventKind::UpdatedPool
        | EventKind::PausedContainer
        | EventKind::ResumedContainer
        | EventKind::RequeuedClaim => return None,
    })
}

fn runtime_error(event: &Event, client: Option<Arc<ClientInstance>>) -> events::RuntimeError {
    let text = |names: [&str; 2], otherwise: &str| {
        let found = names.iter().find_map(|name| event.details.get(*name)?.as_str());
        found.unwrap_or(otherwise).to_owned()
    };
    let chain = event.details.get("chain").and_then(Value::as_array);
    let causes: Option<Vec<&str>> = chain.map(|chain| chain.iter().filter_map(Value::as_str).collect());
    events::RuntimeError {
        name: text(["name", "task"], "server"),
        ex_class: text(["error", "reason"], "StepFailed"),
        traceback: causes.map_or_else(|| event.message.clone(), |causes| causes.join("\ncaused by: ")),
        client_instance: client,
    }
}

fn client_of(payload: &Payload) -> Option<Arc<ClientInstance>> {
    match payload {
        Payload::Client(p) => Some(Arc::clone(&p.client_instance)),
        Payload::ClientClosed(p) => Some(Arc::clone(&p.client_instance)),
        Payload::CreatedContainer(p) => Some(Arc::clone(&p.client_instance)),
        Payload::MalformedRequest(p) => Some(Arc::clone(&p.client_instance)),
        Payload::Request(p) => Some(Arc::clone(&p.client_instance)),
        Payload::UnknownVerb(p) => Some(Arc::clone(&p.client_instance)),
        Payload::CreatedEndpointShell(p) => p.client_instance.clone(),
        Payload::DestroyedContainer(p) => p.client_instance.clone(),
        Payload::RuntimeError(p) => p.client_instance.clone(),
        Payload::Connection(_) | Payload::Started(_) | Payload::Stopped(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Client;

    #[tokio::test(start_paused = true)]
    async fn destroy_waits_for_the_handler_of_its_containers_end_and_for_no_other() {
        let mut handlers = EventHandlers::default();
        handlers.set(EventKind::DestroyedContainer, |_| async {});
        let dispatcher = Dispatcher::new(handlers, Arc::new(|| Timestamp::UNIX_EPOCH), Handle::current());
        let client = Client { ip: [127, 0, 0, 1].into(), id: "12ca17b".into() };
        let (client, uuid) = (ClientInstance::gone(client, Timestamp::UNIX_EPOCH), Uuid::nil());
        let mut destroying = dispatcher.destroying(&client, uuid);
        let event = |kind| Event::new(kind, Timestamp::UNIX_EPOCH).detail("container_uuid", uuid.to_string());
        let (short, error) = (HANDLER_PATIENCE / 2, event(EventKind::RuntimeError));
        dispatcher.committed(error, None);
        assert!(timeout(short, &mut destroying).await.is_err(), "an error of it is not its end");
        // Without a record there is no handler to wait for.
        dispatcher.committed(event(EventKind::DestroyedContainer), None);
        let told = tokio::time::Instant::now();
        destroying.await;
        assert_eq!(told.elapsed(), Duration::ZERO);
    }
}
