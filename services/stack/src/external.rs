//! Servers that are there already and that this stack uses: they are asked how they are, and neither
//! started nor stopped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use flight::kafka::Inquiry;
use flight::registry::RegistryClient;

use crate::clock;
use crate::component::Component;
use crate::components::Context;
use crate::supervisor::Status;
use crate::supervisor::machine::State;
use crate::warehouse::Warehouse;

/// Time between two questions to one server.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// The external servers that a stack uses, each asked by a thread of its own until this is dropped.
#[derive(Clone, Default)]
pub struct Externals(Arc<Mutex<BTreeMap<Component, Status>>>);

impl Externals {
    /// Begins to ask those that the components depend on.
    pub fn watch(context: &Context, components: &[Component]) -> Self {
        let statuses = Component::ALL
            .into_iter()
            .filter(|component| {
                let is_needed = components
                    .iter()
                    .any(|needing| needing.dependencies().contains(component));
                is_needed && context.settings.is_external(*component)
            })
            .map(|component| (component, status(component, "not asked yet")))
            .collect();
        let externals = Self(Arc::new(Mutex::new(statuses)));
        let needed: Vec<Component> = externals.lock().keys().copied().collect();
        for component in needed {
            let (context, known) = (context.clone(), Arc::downgrade(&externals.0));
            std::thread::spawn(move || {
                let ask = asker(component, &context);
                while let Some(known) = known.upgrade() {
                    let externals = Self(known);
                    let detail = match ask() {
                        Ok(()) => context.location(component),
                        Err(why) => format!("does not answer: {why}"),
                    };
                    externals.set(component, &detail);
                    drop(externals);
                    std::thread::sleep(ASK_EVERY);
                }
            });
        }
        externals
    }

    /// What each is at.
    pub fn statuses(&self) -> Vec<Status> {
        self.lock().values().cloned().collect()
    }

    fn set(&self, component: Component, detail: &str) {
        if let Some(known) = self.lock().get_mut(&component)
            && known.detail != detail
        {
            *known = status(component, detail);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Component, Status>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn status(component: Component, detail: &str) -> Status {
    Status {
        name: component.name().to_owned(),
        pid: None,
        state: State::External,
        since: clock::rfc3339(SystemTime::now()),
        restarts: 0,
        port: None,
        detail: detail.to_owned(),
    }
}

/// How a server is asked for a sign of life, as the user of the settings.
fn asker(component: Component, context: &Context) -> Box<dyn Fn() -> Result<(), String>> {
    match component {
        Component::Kafka => {
            let inquiry = Inquiry::new(&context.kafka(), "contrail-status");
            Box::new(move || match &inquiry {
                Ok(inquiry) => inquiry.ping().map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            })
        }
        Component::Registry => {
            let settings = context.registry();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let client = RegistryClient::new(&settings);
            Box::new(move || match (&runtime, &client) {
                (Ok(runtime), Ok(client)) => runtime
                    .block_on(client.ping())
                    .map_err(|error| error.to_string()),
                (Err(error), _) => Err(error.to_string()),
                (_, Err(error)) => Err(error.to_string()),
            })
        }
        _ => {
            let warehouse = Warehouse::new(context);
            Box::new(move || warehouse.ping())
        }
    }
}
