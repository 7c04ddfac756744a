//! How a connection gets its task and stays with it, by what serves the service here.

use super::Carriers;
use crate::api::explain::Explanation;

const BY_PACKETS: &str = "\
Packet programs remember no connection where it comes in: it may arrive at any node, and change nodes, at any time.
The node that runs the task remembers its connections. They stay with it whatever the table says later; a
packet that comes to the wrong node is passed along the few nodes that can have it.
A task that drains or does not listen gets no new connection: its node passes it to the slot's runner-up.
";

const BY_PROXY: &str = "\
The proxy carries a connection at the node where it came in, until it ends: it cannot change nodes, and stays with its
task whatever the table says later. To a task of another node it goes by the agent there.
A task that drains gets no new connection, and where one refuses the next one of the slot is asked.
";

const LEAST: &str = "\
A TCP connection goes to the one of its slot's two highest tasks that has fewer connections for its weight through this
node (tasks of this node: through any).
";

pub fn text(explanation: &Explanation, carriers: &Carriers) -> String {
    let slots = explanation.tables.first().map_or(0, |table| table.slots);
    let hashed = match explanation.affinity.as_str() {
        "client-ip" => {
            "The client's address alone is hashed, so that one client always meets the same task, while it is there."
        }
        _ => "The client's address and both ports are hashed, so that each connection is placed by itself.",
    };
    let mut text = format!(
        "{hashed}\n\
         The hash picks one of {slots} slots, and the table says whose slot it is. Every node has the same table.\n"
    );
    if explanation.rules.algorithm == "least-connections" && carriers.proxy {
        text += LEAST;
    }
    if carriers.packets {
        text += BY_PACKETS;
    }
    if carriers.proxy {
        text += BY_PROXY;
    } else if let Some(family) = carriers.across {
        text += &format!(
            "{family} clients' connections are the proxy's, which carries them at the node where they came in.\n"
        );
    }
    if !carriers.beyond.is_empty() {
        text += &format!(
            "Connections to tasks of {} are the proxy's: there are no packet programs.\n",
            carriers.beyond.join(", ")
        );
    }
    if !explanation.suspected.is_empty() {
        text += &format!(
            "Just now {} cannot be heard: new connections go to the runners-up on other nodes.\n",
            explanation.suspected.join(", ")
        );
    }
    text
}
