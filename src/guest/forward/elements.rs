//! The elements of the tables' sets, one by one: whose each is, and how it goes where its machine has no record.

use crate::hypervisor::xml;
use crate::model::{Trace, TraceKind, Whose};
use crate::plan::drift::BEGINNING;

use super::table::Card;

/// The sets that are no forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// Cards with their addresses.
    Guests,
    /// Cards that are bound to an address.
    Held,
    /// Cards that asked for an address; they end by themselves.
    Askers,
    /// Addresses with egress to public addresses.
    Internet,
    /// Addresses with egress to anything.
    Anything,
}

impl Set {
    /// Those that are read as plain names.
    pub(super) const PLAIN: [Set; 4] = [Set::Held, Set::Askers, Set::Internet, Set::Anything];

    pub(super) fn family(self) -> &'static str {
        match self {
            Set::Guests | Set::Held | Set::Askers => "bridge",
            Set::Internet | Set::Anything => "ip",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Set::Guests => "guests",
            Set::Held => "held",
            Set::Askers => "askers",
            Set::Internet => "internet",
            Set::Anything => "anything",
        }
    }

    /// An element of a plain set.
    pub(super) fn element(self, bridge: &str, text: &str) -> Element {
        let whose = match self {
            Set::Guests | Set::Held => Whose::Card(text.to_owned()),
            Set::Askers => match text.strip_prefix(&xml::cards(bridge)).filter(|digits| digits.len() == BEGINNING) {
                Some(digits) => Whose::Beginning(digits.to_owned()),
                None => Whose::Others("no card of ours has this name".into()),
            },
            Set::Internet | Set::Anything => match text.parse() {
                Ok(address) => Whose::Address(address),
                Err(_) => Whose::Others("it is no address".into()),
            },
        };
        let key = if self == Set::Askers { format!("\"{text}\"") } else { text.to_owned() };
        Element { set: self, key, trace: Trace::new(TraceKind::Element, format!("{} {text}", self.name()), whose) }
    }
}

/// One element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) set: Set,
    /// As nft writes it.
    key: String,
    pub(super) trace: Trace,
}

impl Element {
    /// Of a card. One with a port goes with that; one that somebody else put there stays.
    pub(super) fn of_card(card: &Card) -> Element {
        let Card { address, mac, name, port } = card;
        let whose = match port {
            Some(port) => Whose::Port(*port),
            None if address.is_unspecified() => Whose::Card(mac.clone()),
            None => Whose::Others("it names no port of ours".into()),
        };
        let trace = Trace::new(TraceKind::Element, format!("{} {address} {mac} {name}", Set::Guests.name()), whose);
        Element { set: Set::Guests, key: format!("{address} . {mac} . \"{name}\""), trace }
    }

    /// The text that takes it away. Adding it before makes it no error that it is gone already.
    pub(super) fn removal(&self, table: &str) -> String {
        let (family, name, key) = (self.set.family(), self.set.name(), &self.key);
        let element = format!("element {family} {table} {name} {{ {key} }}\n");
        match self.set {
            // An element that ends by itself would be added with an end of its own.
            Set::Askers => format!("delete {element}"),
            Set::Guests | Set::Held | Set::Internet | Set::Anything => format!("add {element}delete {element}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_owned_by_what_it_names() {
        let mac = "52:54:00:0a:0b:0c";
        let card = format!("{}0123456789", xml::cards("anw0"));
        let whose = |set: Set, text: &str| set.element("anw0", text).trace.whose;
        assert_eq!(whose(Set::Held, mac), Whose::Card(mac.into()));
        assert_eq!(whose(Set::Internet, "192.168.127.5"), Whose::Address([192, 168, 127, 5].into()));
        assert_eq!(whose(Set::Askers, &card), Whose::Beginning("0123456789".into()));
        assert!(matches!(whose(Set::Askers, "vnet0"), Whose::Others(_)));
        let of_card = |last, port| {
            let card = Card { address: [0, 0, 0, last].into(), mac: mac.into(), name: card.clone(), port };
            Element::of_card(&card).trace.whose
        };
        assert_eq!(of_card(5, Some(10_001)), Whose::Port(10_001));
        assert_eq!(of_card(0, None), Whose::Card(mac.into()));
        assert!(matches!(of_card(5, None), Whose::Others(_)));
    }

    #[test]
    fn only_the_element_itself_is_taken_away() {
        let lines = Set::Held.element("anw0", "52:54:00:0a:0b:0c").removal("t");
        let element = "element bridge t held { 52:54:00:0a:0b:0c }\n";
        assert_eq!(lines, format!("add {element}delete {element}"));
        assert_eq!(Set::Askers.element("anw0", "a1").removal("t"), "delete element bridge t askers { \"a1\" }\n");
    }
}
