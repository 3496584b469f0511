//! The overload manager (`overload.v3.OverloadManager`).

use super::{Result, not_empty, positive, unpack};
use crate::pb::envoy::config::overload::v3 as pb;
use crate::pb::envoy::extensions::resource_monitors as monitors;
use crate::problem::{At, gather};
use crate::schema::type_name;
use model::overload::{Action, ActionKind, Monitor, Overload, Resource, Trigger};
use monitors::downstream_connections::v3::DownstreamConnectionsConfig;
use monitors::fixed_heap::v3::FixedHeapConfig;
use monitors::injected_resource::v3::InjectedResourceConfig;
use pb::trigger::TriggerOneof;
use std::time::Duration;

const KINDS: [ActionKind; 7] = [
    ActionKind::StopAcceptingRequests,
    ActionKind::DisableHttpKeepalive,
    ActionKind::StopAcceptingConnections,
    ActionKind::RejectIncomingConnections,
    ActionKind::ShrinkHeap,
    ActionKind::AcceptConnection,
    ActionKind::DecodeHeaders,
];

/// What one monitor gives.
enum Watched {
    Resource(Resource),
    Connections(u64),
}

pub(super) fn overload(at: &At<'_>, pb: &pb::OverloadManager) -> Result<Overload> {
    let (mut resources, mut max_connections) = (Vec::new(), None);
    let watched = pb.resource_monitors.iter().enumerate();
    for one in gather(watched.map(|(index, one)| monitor(&at.item("resource_monitors", index), one)))? {
        match one {
            Watched::Resource(resource) => resources.push(resource),
            Watched::Connections(most) => max_connections = Some(most),
        }
    }
    let actions = pb.actions.iter().enumerate();
    let actions = actions.map(|(index, one)| {
        let at = at.item("actions", index);
        action(&at, &resources, ("overload_actions", &one.name), &one.triggers)
    });
    let actions = once(at, "actions", gather(actions)?)?;
    let points = pb.loadshed_points.iter().enumerate().map(|(index, one)| {
        let at = at.item("loadshed_points", index);
        action(&at, &resources, ("load_shed_points", &one.name), &one.triggers)
    });
    let points = once(at, "loadshed_points", gather(points)?)?;
    let actions = [actions, points].concat();
    let refresh = positive(at, "refresh_interval", &pb.refresh_interval)?.unwrap_or(Duration::from_secs(1));
    Ok(Overload { refresh, resources, actions, max_connections })
}

fn monitor(at: &At<'_>, pb: &pb::ResourceMonitor) -> Result<Watched> {
    let pb::resource_monitor::ConfigType::TypedConfig(any) = at.required("typed_config", &pb.config_type)?;
    let inner = at.field("typed_config");
    let monitor = match type_name(&any.type_url) {
        "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig" => {
            match unpack::<FixedHeapConfig>(&inner, any)?.max_heap_size_bytes {
                0 => return inner.field("max_heap_size_bytes").wrong("must be greater than 0"),
                most => Monitor::Heap { most },
            }
        }
        "envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig" => {
            let config: InjectedResourceConfig = unpack(&inner, any)?;
            Monitor::File(not_empty(&inner, "filename", &config.filename)?.into())
        }
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig" => {
            let most = unpack::<DownstreamConnectionsConfig>(&inner, any)?.max_active_downstream_connections;
            return match u64::try_from(most) {
                Ok(most) if most > 0 => Ok(Watched::Connections(most)),
                _ => inner.field("max_active_downstream_connections").wrong("must be greater than 0"),
            };
        }
        other => {
            let text = format!(
                "resource monitor `{other}` is not implemented; fixed_heap, injected_resource and \
                 downstream_connections are"
            );
            return inner.wrong(text);
        }
    };
    Ok(Watched::Resource(Resource { name: not_empty(at, "name", &pb.name)?.into(), monitor }))
}

/// Each kind may be given once.
fn once(at: &At<'_>, list: &str, actions: Vec<Action>) -> Result<Vec<Action>> {
    let twice = |(index, one): &(usize, &Action)| actions[..*index].iter().any(|earlier| earlier.kind == one.kind);
    match actions.iter().enumerate().find(twice) {
        Some((index, _)) => at.item(list, index).field("name").wrong("is given twice"),
        None => Ok(actions),
    }
}

fn action(
    at: &At<'_>,
    resources: &[Resource],
    (group, name): (&str, &str),
    triggers: &[pb::Trigger],
) -> Result<Action> {
    let of_group = || KINDS.into_iter().filter(|kind| kind.group() == group);
    let bare = name.strip_prefix(&format!("envoy.{group}.")).unwrap_or_default();
    let Some(kind) = of_group().find(|kind| kind.name() == bare) else {
        let known = of_group().map(ActionKind::name).collect::<Vec<_>>().join(", ");
        return at.field("name").wrong(format!("`{name}` is not implemented; envoy.{group}.{{{known}}} are"));
    };
    if triggers.is_empty() {
        return at.field("triggers").wrong("must have at least one trigger");
    }
    let triggers = triggers.iter().enumerate();
    Ok(Action {
        kind,
        triggers: gather(triggers.map(|(index, one)| trigger(&at.item("triggers", index), resources, one)))?,
    })
}

fn trigger(at: &At<'_>, resources: &[Resource], pb: &pb::Trigger) -> Result<(usize, Trigger)> {
    let Some(resource) = resources.iter().position(|resource| *resource.name == pb.name) else {
        return at.field("name").wrong(format!("no resource monitor is called `{}`", pb.name));
    };
    let share = |at: &At<'_>, name: &str, value: f64| match (0.0..=1.0).contains(&value) {
        true => Ok(value),
        false => at.field(name).wrong(format!("{value} is not within 0 and 1")),
    };
    let trigger = match at.required("trigger_oneof", &pb.trigger_oneof)? {
        TriggerOneof::Threshold(one) => Trigger::Threshold(share(&at.field("threshold"), "value", one.value)?),
        TriggerOneof::Scaled(one) => {
            let at = at.field("scaled");
            let from = share(&at, "scaling_threshold", one.scaling_threshold)?;
            let to = share(&at, "saturation_threshold", one.saturation_threshold)?;
            if from >= to {
                return at.field("scaling_threshold").wrong("must be less than saturation_threshold");
            }
            Trigger::Scaled { from, to }
        }
    };
    Ok((resource, trigger))
}
