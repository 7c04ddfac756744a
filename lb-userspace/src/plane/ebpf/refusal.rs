//! Why an uplink is not served by XDP, and for how long that holds.

/// XDP was not attached to an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    obstacle: Obstacle,
    /// In words.
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// The driver or the kernel: it says the same as long as the device is the same.
    Device,
    /// Another program, which may go.
    Rival,
}

impl Refusal {
    /// What the kernel said; `rival` is the id of the XDP program that is attached there.
    pub fn new(rival: Option<u32>, reason: String) -> Self {
        let Some(id) = rival else {
            return Self {
                obstacle: Obstacle::Device,
                reason,
            };
        };
        let info = aya::programs::loaded_programs()
            .flatten()
            .find(|program| program.id() == id);
        let name = info
            .and_then(|info| info.name_as_str().map(str::to_owned))
            .unwrap_or_default();
        Self {
            obstacle: Obstacle::Rival,
            reason: format!("{reason} (another program, id {id} \"{name}\", is attached)"),
        }
    }

    /// Whether there is no use in trying again, now that a rival is there or not.
    pub fn stands(&self, rival: bool) -> bool {
        match self.obstacle {
            Obstacle::Device => true,
            Obstacle::Rival => rival,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdp_is_tried_again_once_the_rival_is_gone_and_whatever_the_words_are() {
        let rival = Refusal::new(Some(u32::MAX), "busy".into());
        assert!(rival.stands(true) && !rival.stands(false));
        let device = Refusal::new(None, "another program would not help".into());
        assert!(device.stands(true) && device.stands(false));
    }
}
