//! Other people's rules about packets that this host forwards: firewalls drop them where Docker, ufw or firewalld was set up.
//!
//! Asked of nftables, where iptables of today has its rules too, and of the older iptables where the kernel has those.

use std::time::Duration;

use serde_json::Value;

use crate::child::Program;
use crate::error_chain;
use crate::plan::checks::Seen;
use crate::plan::checks::network::Drop;

const NFT: Program = Program { name: "nft", package: "nftables", deadline: Duration::from_secs(10) };
const LEGACY: Program = Program { name: "iptables-legacy", package: "iptables", deadline: Duration::from_secs(10) };
/// Where the kernel names the tables of the older iptables; only root can read it.
const LEGACY_TABLES: &str = "/proc/net/ip_tables_names";

/// Whether the tables of this name are there, one in each of the families.
pub fn has_tables(name: &str, families: &[&str]) -> Seen<bool> {
    let json = nft(&["-j", "list", "tables"])?;
    let listed = parse(&json)?;
    let is_there =
        |family: &str| listed.iter().any(|item| item["table"]["family"] == family && item["table"]["name"] == name);
    Ok(families.iter().all(|family| is_there(family)))
}

/// The chains that drop what nobody accepts of what is forwarded, but our own.
pub fn drops(own: &str, bridge: &str) -> Seen<Vec<Drop>> {
    let mut drops = Vec::new();
    for chain in chains(&nft(&["-j", "list", "chains"])?, own)? {
        let rules = nft(&["list", "table", &chain.family, &chain.table])?;
        drops.push(Drop {
            chain: format!("{} {} {}", chain.family, chain.table, chain.name),
            lets_ours: accepts(&rules, bridge),
            docker: rules.contains("DOCKER-USER"),
        });
    }
    if std::fs::read_to_string(LEGACY_TABLES).is_ok_and(|tables| tables.lines().any(|table| table == "filter")) {
        let rules = LEGACY.run(&["-S"], "").map_err(|error| error_chain(&error))?;
        drops.extend(legacy(&rules, bridge));
    }
    Ok(drops)
}

fn nft(arguments: &[&str]) -> Seen<String> {
    NFT.run(arguments, "").map_err(|error| error_chain(&error))
}

fn parse(json: &str) -> Seen<Vec<Value>> {
    let value: Value = serde_json::from_str(json).map_err(|error| format!("nft's answer is no JSON: {error}"))?;
    value["nftables"].as_array().cloned().ok_or_else(|| "nft's answer has no list 'nftables'".into())
}

#[derive(Debug, PartialEq, Eq)]
struct Chain {
    family: String,
    table: String,
    name: String,
}

/// Those at the hook `forward` whose policy is to drop.
fn chains(json: &str, own: &str) -> Seen<Vec<Chain>> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let drops = |chain: &&Value| {
        chain["hook"] == "forward" && chain["policy"] == "drop" && chain["table"] != own
            // Bridged packets are those between guests, which our own table drops anyway.
            && (chain["family"] == "ip" || chain["family"] == "inet")
    };
    let listed = parse(json)?;
    let chains = listed.iter().map(|item| &item["chain"]).filter(drops);
    Ok(chains.map(|c| Chain { family: word(&c["family"]), table: word(&c["table"]), name: word(&c["name"]) }).collect())
}

/// Whether rules accept what comes from the bridge, and what goes to it.
fn accepts(rules: &str, bridge: &str) -> bool {
    let accepts = |direction: &str| {
        let word = format!("{direction} \"{bridge}\" ");
        rules.lines().any(|rule| rule.contains(&word) && rule.trim_end().ends_with("accept"))
    };
    accepts("iifname") && accepts("oifname")
}

/// The same of what `iptables-legacy -S` prints.
fn legacy(rules: &str, bridge: &str) -> Option<Drop> {
    let accepts = |direction: &str| {
        let word = format!(" {direction} {bridge} ");
        rules.lines().any(|rule| rule.starts_with("-A ") && rule.contains(&word) && rule.ends_with("-j ACCEPT"))
    };
    rules.lines().any(|rule| rule == "-P FORWARD DROP").then(|| Drop {
        chain: "iptables-legacy FORWARD".into(),
        lets_ours: accepts("-i") && accepts("-o"),
        docker: rules.lines().any(|rule| rule == "-N DOCKER-USER"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_others_that_drops_what_is_forwarded_is_found() {
        let chain = |family: &str, table: &str, hook: &str, policy: &str| {
            format!(
                r#"{{"chain":{{"family":"{family}","table":"{table}","name":"F","hook":"{hook}","policy":"{policy}"}}}}"#
            )
        };
        let json = [
            r#"{"metainfo":{}}"#.to_owned(),
            r#"{"chain":{"family":"ip","table":"filter","name":"DOCKER"}}"#.to_owned(),
            chain("ip", "filter", "forward", "drop"),
            chain("ip", "filter", "input", "drop"),
            chain("inet", "firewalld", "forward", "accept"),
            chain("ip6", "filter", "forward", "drop"),
            chain("ip", "anweddol", "forward", "drop"),
        ];
        let found = chains(&format!(r#"{{"nftables":[{}]}}"#, json.join(",")), "anweddol").unwrap();
        assert_eq!(found, [Chain { family: "ip".into(), table: "filter".into(), name: "F".into() }]);
        for bad in ["", "[]", "{}"] {
            assert!(chains(bad, "anweddol").is_err(), "{bad}");
        }
    }

    #[test]
    fn ours_pass_where_both_directions_are_accepted() {
        let (from, to) = ("iifname \"anw0\" counter packets 0 bytes 0 accept\n", "oifname \"anw0\" counter accept\n");
        assert!(accepts(&format!("{from}{to}"), "anw0"));
        for rules in [from.to_owned(), format!("{from}{from}"), format!("{from}{to}").replace("accept", "drop")] {
            assert!(!accepts(&rules, "anw0"), "{rules}");
        }
        assert!(!accepts(&format!("{from}{to}"), "anw"));
    }

    #[test]
    fn the_older_iptables_is_read_too() {
        let rules = "-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n";
        let found = legacy(rules, "anw0").unwrap();
        assert!(found.docker && !found.lets_ours, "{found:?}");
        let more = "-A DOCKER-USER -i anw0 -j ACCEPT\n-A DOCKER-USER -o anw0 -j ACCEPT\n";
        assert!(legacy(&format!("{rules}{more}"), "anw0").unwrap().lets_ours);
        assert_eq!(legacy("-P FORWARD ACCEPT\n", "anw0"), None);
    }
}
