//! What is on the screen: a function of what is known.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table, TableState};
use serde_json::Value;

use super::state::{Link, Panel, Ready, State};
use crate::cli::objects::{events, table};
use crate::model::Kind;

/// Lines of events, with their frame and head, where there is room.
const EVENTS: u16 = 10;
/// Between two columns.
const GAP: u16 = 2;

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Colours,
    Plain,
}

impl Paint {
    fn of(self, colour: Color) -> Style {
        match self {
            Paint::Colours => Style::new().fg(colour),
            Paint::Plain => Style::new(),
        }
    }
}

pub(super) fn draw(frame: &mut Frame, state: &State, paint: Paint) {
    let pools = u16::try_from(state.rows(Panel::Pools).len()).unwrap_or(u16::MAX).saturating_add(3);
    let area = frame.area();
    let [header, pool_area, machine_area, event_area, footer] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(pools.clamp(4, (area.height / 3).max(4))),
        Constraint::Min(4),
        Constraint::Length(EVENTS.min(area.height / 3)),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(head(state, paint)), header);
    for (panel, area) in Panel::ALL.into_iter().zip([pool_area, machine_area, event_area]) {
        rows(frame, area, state, panel, paint);
    }
    frame.render_widget(Paragraph::new(foot(state)), footer);
    if state.help {
        help(frame);
    }
}

fn head(state: &State, paint: Paint) -> Vec<Line<'static>> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut first = vec![Span::styled("anweddol", bold)];
    if let Some(server) = &state.server {
        let up = server.since.map(|since| format!(", up {}", span(since, state.now)));
        first.push(Span::raw(format!(" {}{}", server.version, up.unwrap_or_default())));
    }
    first.push(Span::raw(format!("   {}", state.place)));
    let (text, colour) = match (&state.link, state.server.as_ref().map(|server| &server.ready)) {
        (Link::New, _) => ("asking the daemon …".to_owned(), Color::Yellow),
        (Link::Away { seen, why }, _) => {
            let seen = seen.map(|seen| format!("; last seen {} ago", span(seen, state.now)));
            (format!("daemon away{}: {why}", seen.unwrap_or_default()), Color::Red)
        }
        (Link::Here, Some(Ready::No(why))) => (format!("not ready: {why}"), Color::Red),
        (Link::Here, Some(Ready::Yes)) => ("ready".to_owned(), Color::Green),
        (Link::Here, Some(Ready::NotTold) | None) => ("the daemon answers".to_owned(), Color::Green),
    };
    vec![Line::from(first), Line::from(Span::styled(clean(&text), paint.of(colour).add_modifier(Modifier::BOLD)))]
}

/// A time between, as ages are written.
fn span(since: Timestamp, now: Timestamp) -> String {
    crate::manifest::time::age(&Value::String(since.to_string()), now)
}

fn rows(frame: &mut Frame, area: Rect, state: &State, panel: Panel, paint: Paint) {
    let objects = state.rows(panel);
    let title = format!(" {} ({}) ", title(panel), objects.len());
    let head = head_of(panel);
    let cells: Vec<Vec<String>> = objects.iter().map(|object| cells(panel, object, state.now)).collect();
    let widths = widths(&head, &cells);
    let styles = objects.iter().map(|object| style(panel, object, paint));
    let rows = cells.into_iter().zip(styles).map(|(cells, style)| Row::new(cells).style(style));
    let focused = state.panel == panel;
    let mut block = Block::bordered().title(title);
    if focused {
        block = block.border_style(paint.of(Color::Cyan).add_modifier(Modifier::BOLD));
    }
    let mut table = Table::new(rows, widths)
        .header(Row::new(head).style(Style::new().add_modifier(Modifier::BOLD)))
        .column_spacing(GAP)
        .block(block);
    if focused {
        table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    }
    let mut selection = TableState::new().with_selected(Some(state.selected(panel)));
    frame.render_stateful_widget(table, area, &mut selection);
}

fn title(panel: Panel) -> &'static str {
    match panel {
        Panel::Pools => "pools",
        Panel::Machines => "machines",
        Panel::Events => "events",
    }
}

fn head_of(panel: Panel) -> Vec<String> {
    match panel {
        Panel::Pools => {
            let mut head = table::head(Kind::ContainerPool, false, false);
            head.push("CONDITIONS".into());
            head
        }
        Panel::Machines => table::head(Kind::Container, false, false),
        Panel::Events => events::head(),
    }
}

fn cells(panel: Panel, object: &Value, now: Timestamp) -> Vec<String> {
    match panel {
        Panel::Pools => {
            let mut cells = table::row(Kind::ContainerPool, object, false, false, now);
            cells.push(conditions(object));
            cells
        }
        Panel::Machines => table::row(Kind::Container, object, false, false, now),
        Panel::Events => events::row(object, now),
    }
}

/// Those that hold, and why those do not that should.
fn conditions(pool: &Value) -> String {
    let word = |condition: &Value, name: &str| condition[name].as_str().unwrap_or_default().to_owned();
    let told = |condition: &Value| {
        let (kind, reason) = (word(condition, "type"), word(condition, "reason"));
        match (kind.as_str(), condition["status"] == "True") {
            // Good news are short.
            ("Degraded", false) | ("Progressing", false) => None,
            ("Degraded" | "Progressing", true) | (_, false) => {
                let not = if condition["status"] == "True" { "" } else { "not " };
                Some(format!("{not}{kind} ({reason})"))
            }
            (_, true) => Some(kind),
        }
    };
    let conditions = pool["status"]["conditions"].as_array().into_iter().flatten();
    clean(&conditions.filter_map(told).collect::<Vec<_>>().join(", "))
}

/// As wide as what stands in it; the last has what is left.
fn widths(head: &[String], rows: &[Vec<String>]) -> Vec<Constraint> {
    let longest = |index: usize| {
        let cells = rows.iter().filter_map(|row| row.get(index)).chain(head.get(index));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let width = |index: usize| match index + 1 == head.len() {
        true => Constraint::Fill(1),
        false => Constraint::Length(u16::try_from(longest(index)).unwrap_or(u16::MAX)),
    };
    (0..head.len()).map(width).collect()
}

fn style(panel: Panel, object: &Value, paint: Paint) -> Style {
    let degraded = |condition: &Value| condition["type"] == "Degraded" && condition["status"] == "True";
    match panel {
        Panel::Pools => match object["status"]["conditions"].as_array() {
            Some(conditions) if conditions.iter().any(degraded) => paint.of(Color::Red),
            Some(_) | None => Style::new(),
        },
        Panel::Machines => match object["status"]["phase"].as_str() {
            Some("Ready") => paint.of(Color::Green),
            Some("Bound") => paint.of(Color::Cyan),
            Some("Failed") => paint.of(Color::Red),
            Some(_) | None => paint.of(Color::Yellow),
        },
        Panel::Events => match object["type"].as_str() {
            Some(kind) if kind.contains("FAILED") || kind.contains("LOST") || kind.contains("ERROR") => {
                paint.of(Color::Red)
            }
            Some(_) | None => Style::new(),
        },
    }
}

fn foot(state: &State) -> Line<'static> {
    let keys = "q ends   ↑↓ select   Tab next panel   / filter   ? help";
    match (state.typing, state.filter.is_empty()) {
        (true, _) => Line::raw(format!("filter: {}▏  (Enter keeps it, Esc takes it away)", state.filter)),
        (false, false) => Line::raw(format!("filter: {} (Esc takes it away)   {keys}", state.filter)),
        (false, true) => Line::raw(keys),
    }
}

const HELP: [&str; 10] = [
    "↑ ↓, j k       the row above, below",
    "PgUp PgDn      ten rows",
    "Home End, g G  the first, the last",
    "Tab            the next panel",
    "/              only rows with these letters: name, phase, pool, claim, message",
    "Esc            all rows again; closes this",
    "q, Ctrl-C      end; the daemon goes on",
    "",
    "machines       failed first, then bound, ready, booting; the oldest first",
    "events         the newest first",
];

fn help(frame: &mut Frame) {
    let area = frame.area();
    let longest = HELP.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let width = u16::try_from(longest).unwrap_or(u16::MAX).saturating_add(4).min(area.width);
    let height = u16::try_from(HELP.len()).unwrap_or(u16::MAX).saturating_add(2).min(area.height);
    let (x, y) = ((area.width - width) / 2, (area.height - height) / 2);
    let area = Rect::new(x, y, width, height);
    frame.render_widget(Clear, area);
    let lines: Vec<Line> = HELP.into_iter().map(Line::raw).collect();
    let block = Block::bordered().title(" keys ").title_alignment(Alignment::Center);
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// What the daemon says goes to a terminal: nothing of it is a command there.
fn clean(text: &str) -> String {
    text.replace(char::is_control, " ")
}
