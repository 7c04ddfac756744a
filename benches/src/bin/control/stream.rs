//! What agents on managers send each of the others: the whole picture once, and then what has changed.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use benches::input::{BACKENDS, HERE, SERVICE, SERVICES, services_file};
use lb_userspace::model::{Desired, DesiredBackend, DesiredService, Readiness};
use lb_userspace::source::file;
use lb_userspace::source::stream::{bytes_of_change, codec};

/// One line of the result.
pub struct Bytes {
    pub name: String,
    pub bytes: usize,
}

/// Of a picture of all services, and of each kind of change.
pub fn measure() -> Result<Vec<Bytes>> {
    let Ok(desired) = file::parse(Path::new("services.yaml"), &services_file(256)) else {
        bail!("the services file has mistakes");
    };
    let before = Arc::new(desired);
    let changed = |how: &dyn Fn(&mut DesiredService)| {
        let mut after = Desired::clone(&before);
        if let Some(service) = after.services.get_mut(SERVICE) {
            how(Arc::make_mut(service));
        }
        bytes_of_change(&before, &Arc::new(after))
    };
    let draining = |service: &mut DesiredService| {
        let mut backends = service.backends.iter_mut();
        if let Some(backend) = backends.next() {
            backend.readiness = Readiness::Draining;
        }
    };
    let more = |count: u32| {
        move |service: &mut DesiredService| {
            let template = service.backends[0].clone();
            service.backends.extend((0..count).map(|number| DesiredBackend {
                task: format!("{SERVICE}.{number}.k1x7ovbkzl4xgm9g3ln0s3q8e").into(),
                node: HERE.into(),
                ..template.clone()
            }));
            service.backends.sort_by(|a, b| a.task.cmp(&b.task));
        }
    };
    let gone = {
        let mut after = Desired::clone(&before);
        after.services.remove(SERVICE);
        after.order.retain(|name| **name != *SERVICE);
        bytes_of_change(&before, &Arc::new(after))
    };
    let row = |name: &str, bytes| Bytes {
        name: name.to_owned(),
        bytes,
    };
    Ok(vec![
        row(
            &format!("the whole picture, {SERVICES} services of {BACKENDS} tasks"),
            codec::encode(&before).len(),
        ),
        row("a task begins to drain", changed(&draining)),
        row("a task more", changed(&more(1))),
        row("a service is scaled by 100 tasks", changed(&more(100))),
        row("a service is removed", gone),
    ])
}
