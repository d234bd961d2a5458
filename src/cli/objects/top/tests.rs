use jiff::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use serde_json::{Value, json};

use super::state::{Key, Link, Message, Next, Panel, Ready, Server, State};
use super::view::{Paint, draw};
use crate::model::Kind;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn machine(name: &str, phase: &str, born: i64) -> Value {
    json!({
        "metadata": { "namespace": "default", "name": name, "creationTimestamp": at(born).to_string() },
        "status": { "phase": phase, "pool": "web", "port": 10_001 },
    })
}

fn pool(name: &str, conditions: &Value) -> Value {
    json!({
        "metadata": { "namespace": "default", "name": name, "creationTimestamp": at(0).to_string() },
        "spec": { "replicas": 3, "maxContainers": 8 },
        "status": { "readyReplicas": 2, "updatedReplicas": 2, "boundContainers": 1, "containers": 4, "conditions": conditions },
    })
}

fn event(number: u64, kind: &str) -> Value {
    json!({ "number": number, "type": kind, "at": at(0).to_string(), "message": "it\u{1b}[2J happened",
            "regarding": { "kind": "Container", "name": "a" } })
}

fn server(ready: Ready) -> Message {
    Message::Server(Server { version: "0.1.0".into(), since: Some(at(0)), ready })
}

fn state(messages: impl IntoIterator<Item = Message>) -> State {
    let mut state = State::new("/s".into());
    for message in [Message::Now(at(60))].into_iter().chain(messages) {
        assert_eq!(state.apply(message), Next::GoOn);
    }
    state
}

fn press(state: &mut State, keys: &[Key]) {
    keys.iter().for_each(|key| assert_eq!(state.apply(Message::Key(*key)), Next::GoOn));
}

fn names(state: &State, panel: Panel) -> Vec<String> {
    let name = |row: &&Value| match panel {
        Panel::Events => row["number"].to_string(),
        Panel::Pools | Panel::Machines => row["metadata"]["name"].as_str().unwrap().to_owned(),
    };
    state.rows(panel).iter().map(name).collect()
}

fn drawn(state: &State, paint: Paint, size: (u16, u16)) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw(frame, state, paint)).unwrap();
    terminal
}

fn screen(state: &State) -> Vec<String> {
    let terminal = drawn(state, Paint::Plain, (120, 30));
    let cells: Vec<&str> = terminal.backend().buffer().content().iter().map(|cell| cell.symbol()).collect();
    cells.chunks(120).map(|row| row.concat().trim_end().to_owned()).collect()
}

/// The line that has this word.
fn line<'a>(screen: &'a [String], word: &str) -> &'a str {
    screen.iter().find(|line| line.contains(word)).unwrap_or_else(|| panic!("no '{word}' in:\n{}", screen.join("\n")))
}

#[test]
fn machines_stand_by_phase_and_age_and_a_new_list_is_the_whole_of_it() {
    let mut state = state([Message::Listed(
        Kind::Container,
        vec![
            machine("booting", "Booting", 0),
            machine("young", "Bound", 20),
            machine("old", "Bound", 10),
            machine("failed", "Failed", 30),
        ],
    )]);
    assert_eq!(names(&state, Panel::Machines), ["failed", "old", "young", "booting"]);
    state.apply(Message::Changed(Kind::Container, machine("booting", "Bound", 0)));
    assert_eq!(names(&state, Panel::Machines), ["failed", "booting", "old", "young"]);
    state.apply(Message::Deleted(Kind::Container, machine("old", "Bound", 10)));
    state.apply(Message::Listed(Kind::ContainerPool, vec![pool("web", &json!([]))]));
    assert_eq!(names(&state, Panel::Machines), ["failed", "booting", "young"]);
    // Of a daemon that came back: what went meanwhile was told by nobody.
    state.apply(Message::Listed(Kind::Container, vec![machine("other", "Ready", 0)]));
    assert_eq!(
        (names(&state, Panel::Machines), names(&state, Panel::Pools)),
        (vec!["other".into()], vec!["web".into()])
    );
}

#[test]
fn events_are_told_once_and_the_oldest_are_forgotten() {
    let mut state = state([Message::Events((1..=3).map(|n| event(n, "CLIENT")).collect())]);
    state.apply(Message::Events(vec![event(2, "CLIENT"), event(4, "CLIENT")]));
    assert_eq!(names(&state, Panel::Events), ["4", "3", "2", "1"]);
    state.apply(Message::Events((5..=2000).map(|n| event(n, "CLIENT")).collect()));
    let names = names(&state, Panel::Events);
    assert_eq!((names.len(), names[0].as_str(), names[999].as_str()), (1000, "2000", "1001"));
}

#[test]
fn a_daemon_that_is_away_is_told_with_the_time_it_was_last_seen() {
    let mut state = state([Message::Away("nobody".into())]);
    assert_eq!(state.link, Link::Away { seen: None, why: "nobody".into() });
    state.apply(server(Ready::Yes));
    assert!(line(&screen(&state), "ready").starts_with("ready"));
    assert!(line(&screen(&state), "anweddol 0.1.0").contains("up 60s"), "{:?}", screen(&state)[0]);
    state.apply(Message::Away("it is gone".into()));
    state.apply(Message::Now(at(63)));
    // A second attempt in vain does not count as seen.
    state.apply(Message::Away("it is gone".into()));
    assert!(screen(&state)[1].starts_with("daemon away; last seen 3s ago: it is gone"), "{:?}", screen(&state)[1]);
    state.apply(server(Ready::No("HypervisorUnreachable: no socket".into())));
    assert_eq!(screen(&state)[1], "not ready: HypervisorUnreachable: no socket");
}

#[test]
fn a_selection_stays_within_the_rows_and_each_panel_has_its_own() {
    let machines = (0..25).map(|n| machine(&format!("m{n:02}"), "Ready", n)).collect();
    let mut state = state([Message::Listed(Kind::Container, machines)]);
    press(&mut state, &[Key::Up]);
    assert_eq!(state.selected(Panel::Machines), 0);
    press(&mut state, &[Key::Down, Key::Letter('j'), Key::Letter('k'), Key::PageDown]);
    assert_eq!(state.selected(Panel::Machines), 11);
    // The selected row is on the screen, however few fit.
    press(&mut state, &[Key::Letter('G')]);
    assert_eq!(state.selected(Panel::Machines), 24);
    line(&screen(&state), "m24");
    press(&mut state, &[Key::NextPanel, Key::Down, Key::NextPanel, Key::PreviousPanel]);
    assert_eq!((state.panel, state.selected(Panel::Events), state.selected(Panel::Machines)), (Panel::Events, 0, 24));
    state.apply(Message::Listed(Kind::Container, vec![machine("one", "Ready", 0)]));
    assert_eq!(state.selected(Panel::Machines), 0);
}

#[test]
fn a_filter_takes_letters_that_are_keys_elsewhere_and_escape_takes_it_away() {
    let mut state = state([
        Message::Listed(Kind::Container, vec![machine("quick", "Ready", 0), machine("slow", "Bound", 0)]),
        Message::Events(vec![event(1, "CLIENT")]),
    ]);
    press(&mut state, &[Key::Letter('/'), Key::Letter('Q'), Key::Letter('x'), Key::Backspace, Key::Enter]);
    assert_eq!((names(&state, Panel::Machines), state.filter.as_str()), (vec!["quick".into()], "Q"));
    assert!(names(&state, Panel::Events).is_empty());
    line(&screen(&state), "filter: Q");
    press(&mut state, &[Key::Escape]);
    assert_eq!(names(&state, Panel::Machines).len(), 2);
    assert_eq!(state.apply(Message::Key(Key::Letter('q'))), Next::End);
    press(&mut state, &[Key::Letter('?')]);
    line(&screen(&state), "Ctrl-C");
}

#[test]
fn the_screen_has_all_of_a_pool_a_machine_and_an_event_in_a_line_each() {
    let conditions = json!([
        { "type": "Available", "status": "False", "reason": "Filling" },
        { "type": "Degraded", "status": "True", "reason": "BootsFail" },
        { "type": "Progressing", "status": "False", "reason": "AsWished" },
        { "type": "ImageReady", "status": "True", "reason": "Hashed" },
    ]);
    let state = state([
        Message::Listed(Kind::ContainerPool, vec![pool("web", &conditions)]),
        Message::Listed(Kind::Container, vec![machine("it", "Booting", 50)]),
        Message::Events(vec![event(7, "FAILED_CONTAINER")]),
    ]);
    let screen = screen(&state);
    let pool = line(&screen, "web ");
    for word in ["2/3", "4/8", "60s", "not Available (Filling), Degraded (BootsFail), ImageReady"] {
        assert!(pool.contains(word), "no '{word}' in: {pool}");
    }
    let machine = line(&screen, "│it ");
    assert!(["Booting", "web", "10001", "10s"].iter().all(|word| machine.contains(word)), "{machine}");
    let told = line(&screen, "FAILED_CONTAINER");
    // A message is no command to the terminal.
    assert!(told.contains("container/a") && told.contains("it [2J happened"), "{told}");
    assert!(line(&screen, " pools (1) ").contains('┌') && screen[29].contains("q ends"), "{screen:?}");
}

#[test]
fn colours_are_left_out_where_nobody_wants_them_and_the_smallest_terminal_is_drawn_too() {
    let state = state([Message::Listed(Kind::Container, vec![machine("it", "Failed", 0)]), Message::Away("x".into())]);
    let coloured = |paint| {
        let terminal = drawn(&state, paint, (120, 30));
        terminal.backend().buffer().content().iter().any(|cell| cell.fg != Color::Reset)
    };
    assert!(coloured(Paint::Colours) && !coloured(Paint::Plain));
    for size in [(1, 1), (20, 5), (80, 12), (400, 200)] {
        drawn(&state, Paint::Colours, size);
    }
}
