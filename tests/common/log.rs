//! A daemon's log as it is written, and the events in it.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use super::PATIENCE;

/// An event as the log tells it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) number: u64,
    pub(crate) message: String,
    pub(crate) client: Option<String>,
    pub(crate) details: Value,
}

impl Event {
    /// The container it is about.
    pub(crate) fn container(&self) -> Option<&str> {
        self.details["container_uuid"].as_str()
    }
}

#[derive(Default)]
struct Written {
    lines: Vec<String>,
    ended: bool,
}

/// Reads what a daemon writes until it ends.
pub(crate) struct Log {
    shared: Arc<(Mutex<Written>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Log {
    pub(crate) fn of(output: impl Read + Send + 'static) -> Log {
        let shared = Arc::new((Mutex::new(Written::default()), Condvar::new()));
        let told = Arc::clone(&shared);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                told.0.lock().unwrap().lines.push(line);
                told.1.notify_all();
            }
            told.0.lock().unwrap().ended = true;
            told.1.notify_all();
        });
        Log { shared, reader: Some(reader) }
    }

    /// Waits until the lines so far hold what is looked for.
    pub(crate) fn until<T>(&self, what: &str, look: impl Fn(&[String]) -> Option<T>) -> T {
        self.within(PATIENCE, look).unwrap_or_else(|| panic!("the log never said: {what}; it says:\n{self}"))
    }

    /// Waits for as long as this, or until the log's end, for lines that hold what is looked for.
    pub(crate) fn within<T>(&self, limit: Duration, look: impl Fn(&[String]) -> Option<T>) -> Option<T> {
        let mut found = None;
        let written = self.shared.0.lock().unwrap();
        let waited = self.shared.1.wait_timeout_while(written, limit, |written| {
            found = look(&written.lines);
            found.is_none() && !written.ended
        });
        drop(waited.unwrap());
        found
    }

    /// Waits for as many events of a name, and gives all of that name.
    pub(crate) fn events(&self, name: &str, count: usize) -> Vec<Event> {
        self.until(&format!("{count} x {name}"), |lines| {
            let found: Vec<Event> = events(lines).into_iter().filter(|event| event.name == name).collect();
            (found.len() >= count).then_some(found)
        })
    }

    /// Waits for an event about a container.
    pub(crate) fn event_about(&self, name: &str, container: &str) -> Event {
        self.until(&format!("{name} of {container}"), |lines| {
            events(lines).into_iter().find(|event| event.name == name && event.container() == Some(container))
        })
    }

    /// Waits for the end, and gives everything.
    pub(crate) fn whole(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.shared.0.lock().unwrap().lines.clone()
    }

    /// Whether nothing more can be written.
    pub(crate) fn is_over(&self) -> bool {
        self.shared.0.lock().unwrap().ended
    }

    /// What was written so far.
    pub(crate) fn so_far(&self) -> Vec<String> {
        self.shared.0.lock().unwrap().lines.clone()
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.so_far().join("\n"))
    }
}

/// The events among lines, in order.
pub(crate) fn events(lines: &[String]) -> Vec<Event> {
    lines.iter().filter_map(|line| event(line)).collect()
}

fn event(line: &str) -> Option<Event> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["target"] != "anweddol::event" {
        return None;
    }
    let fields = &line["fields"];
    let says = fields["message"].as_str()?;
    let (name, message) = says.split_once(": ").unwrap_or((says, ""));
    let details = fields["details"].as_str().map_or(Value::Null, |text| serde_json::from_str(text).unwrap());
    Some(Event {
        name: name.into(),
        number: fields["number"].as_u64()?,
        message: message.into(),
        client: fields["client"].as_str().map(str::to_owned),
        details,
    })
}
