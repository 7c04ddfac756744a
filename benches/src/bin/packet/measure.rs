//! Many short runs, and the middle of them.

use std::fmt;

use anyhow::{Context, Result, bail};
use lb_userspace::plane::ebpf::object::PROGRAMS;

/// How often to measure, and what.
pub struct Runs {
    count: usize,
    repeats: u32,
    /// An object file to measure in place of the built-in programs.
    programs: Option<Vec<u8>>,
    /// What the names of the rows to measure contain.
    rows: String,
}

impl Runs {
    /// `[--runs N] [--repeats N] [--programs FILE] [--rows PART]`
    pub fn from_arguments() -> Result<Self> {
        let mut runs = Self {
            count: 25,
            repeats: 200_000,
            programs: None,
            rows: String::new(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments
                .next()
                .with_context(|| format!("{name} needs a value"))?;
            let number = || value.parse().with_context(|| format!("{value} is no number"));
            match name.as_str() {
                "--runs" => runs.count = number()? as usize,
                "--repeats" => runs.repeats = number()?,
                "--programs" => {
                    let read = std::fs::read(&value).with_context(|| format!("cannot read {value}"))?;
                    runs.programs = Some(read);
                }
                "--rows" => runs.rows = value,
                _ => bail!("unknown argument {name}; there are --runs, --repeats, --programs and --rows"),
            }
        }
        Ok(runs)
    }

    /// Whether a row of this name shall be measured.
    pub fn want(&self, name: &str) -> bool {
        name.contains(&self.rows)
    }

    /// The programs to measure.
    pub fn programs(&self) -> &[u8] {
        self.programs.as_deref().unwrap_or(PROGRAMS)
    }

    /// The median of what `run` gives: the time of a number of repeats, in nanoseconds for each.
    pub fn median(&self, run: impl FnMut(u32) -> Result<f64>) -> Result<Median> {
        self.median_of(self.repeats, run)
    }

    /// As [`median`](Self::median), for runs of `repeats`.
    pub fn median_of(&self, repeats: u32, mut run: impl FnMut(u32) -> Result<f64>) -> Result<Median> {
        // Once to have tables and caches as they are later.
        run(repeats)?;
        let mut times = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            times.push(run(repeats)?);
        }
        times.sort_by(f64::total_cmp);
        let at = |part: usize| times.get(times.len() * part / 4).copied();
        match (at(1), at(2), at(3)) {
            (Some(low), Some(middle), Some(high)) => Ok(Median {
                nanoseconds: middle,
                spread: (high - low) / 2.0,
            }),
            _ => bail!("there must be one run at least"),
        }
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} runs of {} packets", self.count, self.repeats)
    }
}

/// The middle of several runs, in nanoseconds per packet.
#[derive(Clone, Copy, Debug)]
pub struct Median {
    pub nanoseconds: f64,
    /// Half the distance between the quartiles.
    pub spread: f64,
}

impl fmt::Display for Median {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} ± {:.0}", self.nanoseconds, self.spread)
    }
}
