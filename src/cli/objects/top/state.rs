//! What is known, and what of it is looked at: changed by messages alone.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde_json::Value;

use crate::model::Kind;

/// Events that are kept to look back at.
const KEPT: usize = 1000;
/// Rows of a page.
const PAGE: usize = 10;
/// The longest filter.
const LONGEST_FILTER: usize = 100;

/// What happened.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// The time.
    Now(Timestamp),
    /// The daemon was asked who it is.
    Server(Server),
    /// It does not answer, for this reason.
    Away(String),
    /// All objects of a kind, as they are.
    Listed(Kind, Vec<Value>),
    /// One of them was added or changed.
    Changed(Kind, Value),
    /// One of them is gone.
    Deleted(Kind, Value),
    /// Something happened to one of them.
    Events(Vec<Value>),
    /// Somebody pressed a key.
    Key(Key),
}

/// A key, by its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Letter(char),
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    NextPanel,
    PreviousPanel,
    Enter,
    Escape,
    Backspace,
    Redraw,
    Quit,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    GoOn,
    End,
}

/// Who the daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// Its version.
    pub(super) version: String,
    /// When it began to listen.
    pub(super) since: Option<Timestamp>,
    /// What its health endpoint says.
    pub(super) ready: Ready,
}

/// What the health endpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ready {
    /// It serves.
    Yes,
    /// It does not, for this reason.
    No(String),
    /// There is no such endpoint, or its port is not known.
    NotTold,
}

/// Whether the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// Nobody asked yet.
    New,
    /// It does.
    Here,
    /// It does not.
    Away {
        /// When it last did.
        seen: Option<Timestamp>,
        /// What is in the way.
        why: String,
    },
}

/// A part of the screen that rows can be selected in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Panel {
    Pools,
    Machines,
    Events,
}

impl Panel {
    pub(super) const ALL: [Panel; 3] = [Panel::Pools, Panel::Machines, Panel::Events];

    fn beside(self, steps: usize) -> Panel {
        Panel::ALL[(self as usize + steps) % Panel::ALL.len()]
    }
}

/// Everything.
#[derive(Debug)]
pub(super) struct State {
    pub(super) now: Timestamp,
    /// The state directory, which says which daemon is meant.
    pub(super) place: String,
    pub(super) server: Option<Server>,
    pub(super) link: Link,
    pub(super) panel: Panel,
    pub(super) help: bool,
    pub(super) filter: String,
    /// Whether letters go into the filter.
    pub(super) typing: bool,
    selected: [usize; 3],
    objects: BTreeMap<(Kind, String, String), Value>,
    /// The newest last.
    events: VecDeque<Value>,
}

impl State {
    pub(super) fn new(place: String) -> State {
        State {
            now: Timestamp::UNIX_EPOCH,
            place,
            server: None,
            link: Link::New,
            panel: Panel::Machines,
            help: false,
            filter: String::new(),
            typing: false,
            selected: [0; 3],
            objects: BTreeMap::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes a message in.
    pub(super) fn apply(&mut self, message: Message) -> Next {
        match message {
            Message::Now(now) => self.now = now,
            Message::Server(server) => (self.server, self.link) = (Some(server), Link::Here),
            Message::Away(why) => {
                let seen = match &self.link {
                    Link::New => None,
                    Link::Here => Some(self.now),
                    Link::Away { seen, .. } => *seen,
                };
                self.link = Link::Away { seen, why };
            }
            Message::Listed(kind, objects) => {
                self.objects.retain(|(of, ..), _| *of != kind);
                objects.into_iter().for_each(|object| self.put(kind, object));
            }
            Message::Changed(kind, object) => self.put(kind, object),
            Message::Deleted(kind, object) => {
                self.objects.remove(&key(kind, &object));
            }
            Message::Events(events) => self.events(events),
            Message::Key(key) => return self.key(key),
        }
        self.settle();
        Next::GoOn
    }

    fn put(&mut self, kind: Kind, object: Value) {
        self.objects.insert(key(kind, &object), object);
    }

    /// Numbers only grow: what a watch tells again, after a connection that broke, is known.
    fn events(&mut self, events: Vec<Value>) {
        for event in events {
            let newest = self.events.back().and_then(|event| event["number"].as_u64());
            if newest.is_none_or(|newest| event["number"].as_u64().is_some_and(|number| number > newest)) {
                self.events.push_back(event);
            }
        }
        let over = self.events.len().saturating_sub(KEPT);
        self.events.drain(..over);
    }

    fn key(&mut self, key: Key) -> Next {
        match (key, self.typing) {
            (Key::Quit, _) | (Key::Letter('q'), false) => return Next::End,
            (Key::Letter(letter), true) if self.filter.len() < LONGEST_FILTER => self.filter.push(letter),
            (Key::Backspace, true) => drop(self.filter.pop()),
            (Key::Enter, true) => self.typing = false,
            (Key::Escape, _) => {
                (self.typing, self.help) = (false, false);
                self.filter.clear();
            }
            (Key::Letter('/'), false) => self.typing = true,
            (Key::Letter('?'), false) => self.help = !self.help,
            (Key::Up, _) | (Key::Letter('k'), false) => self.select(|at, _| at.saturating_sub(1)),
            (Key::Down, _) | (Key::Letter('j'), false) => self.select(|at, _| at + 1),
            (Key::PageUp, _) => self.select(|at, _| at.saturating_sub(PAGE)),
            (Key::PageDown, _) => self.select(|at, _| at + PAGE),
            (Key::First, _) | (Key::Letter('g'), false) => self.select(|_, _| 0),
            (Key::Last, _) | (Key::Letter('G'), false) => self.select(|_, rows| rows),
            (Key::NextPanel, _) => self.panel = self.panel.beside(1),
            (Key::PreviousPanel, _) => self.panel = self.panel.beside(2),
            (Key::Letter(_) | Key::Backspace | Key::Enter | Key::Redraw, _) => {}
        }
        self.settle();
        Next::GoOn
    }

    fn select(&mut self, to: impl Fn(usize, usize) -> usize) {
        let (panel, rows) = (self.panel, self.rows(self.panel).len());
        self.selected[panel as usize] = to(self.selected(panel), rows);
    }

    /// Nothing beyond the last row is selected.
    fn settle(&mut self) {
        for panel in Panel::ALL {
            let last = self.rows(panel).len().saturating_sub(1);
            self.selected[panel as usize] = self.selected[panel as usize].min(last);
        }
    }

    /// Which row of a panel is selected.
    pub(super) fn selected(&self, panel: Panel) -> usize {
        self.selected[panel as usize]
    }

    /// What stands in a panel, in its order: pools by name, machines by phase and age, the newest event first.
    pub(super) fn rows(&self, panel: Panel) -> Vec<&Value> {
        let mut rows: Vec<&Value> = match panel {
            Panel::Pools => self.of(Kind::ContainerPool).collect(),
            Panel::Machines => self.of(Kind::Container).collect(),
            Panel::Events => self.events.iter().rev().collect(),
        };
        rows.retain(|row| self.is_wanted(row));
        if panel == Panel::Machines {
            rows.sort_by_key(|machine| (rank(machine), age_key(machine)));
        }
        rows
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |((of, ..), _)| *of == kind).map(|(_, object)| object)
    }

    /// By everything that names it or says how it is.
    fn is_wanted(&self, row: &Value) -> bool {
        let filter = self.filter.to_lowercase();
        let has = |pointer: &str| {
            row.pointer(pointer).and_then(Value::as_str).is_some_and(|text| text.to_lowercase().contains(&filter))
        };
        let places = [
            "/metadata/name",
            "/status/phase",
            "/status/pool",
            "/status/claim",
            "/type",
            "/message",
            "/regarding/name",
        ];
        filter.is_empty() || places.into_iter().any(has)
    }
}

fn key(kind: Kind, object: &Value) -> (Kind, String, String) {
    let word = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (kind, word("namespace"), word("name"))
}

/// What asks for somebody first, then in use, ready, on its way, ending.
fn rank(machine: &Value) -> usize {
    if !machine["metadata"]["deletionTimestamp"].is_null() {
        return 5;
    }
    let phases = ["Failed", "Bound", "Ready", "Booting", "Pending", "Terminating"];
    let phase = machine["status"]["phase"].as_str().unwrap_or("Pending");
    phases.iter().position(|known| *known == phase).unwrap_or(phases.len())
}

fn age_key(machine: &Value) -> (String, String) {
    let word = |name: &str| machine["metadata"][name].as_str().unwrap_or_default().to_owned();
    (word("creationTimestamp"), word("name"))
}
