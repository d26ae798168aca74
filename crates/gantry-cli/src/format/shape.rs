//! Go's types behind the daemon's JSON: a template that asks by Go's names, or shows a whole struct, gets what it gets
//! of Docker's client (docker/cli and api/types of Docker 28).
//!
//! Only what a template can tell apart is described: names that differ from the JSON's, fields that the daemon leaves
//! out, and the order of those structs that people print whole. Other members go by their JSON name.

use gotmpl::Value;
use serde_json::Value as Json;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A struct of Go's.
#[derive(Debug)]
pub(crate) struct Shape {
    /// As `%T` shows a value of it, with the `*` of a pointer.
    pub(crate) go: &'static str,
    /// In their order.
    pub(crate) fields: &'static [Field],
    /// Whether there are no other fields.
    pub(crate) complete: bool,
}

/// A field of a struct.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) json: &'static str,
    pub(crate) of: Of,
}

/// What a field holds, and is where the JSON does not have it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Of {
    Text,
    Number,
    Truth,
    /// A nil pointer.
    Pointer,
    List,
    Map,
    Struct(&'static Shape),
    StructPointer(&'static Shape),
    /// A list of them.
    Structs(&'static Shape),
    /// A time, which prints as Go's do.
    Time,
    /// A map of them.
    StructByName(&'static Shape),
    /// A map of lists of them.
    StructsByName(&'static Shape),
}

const fn field(name: &'static str, json: &'static str, of: Of) -> Field {
    Field { name, json, of }
}

/// A field with the same name in both.
const fn same(name: &'static str, of: Of) -> Field {
    field(name, name, of)
}

static PLATFORM: Shape = Shape {
    go: "struct { Name string }",
    fields: &[same("Name", Of::Text)],
    complete: true,
};

static COMPONENT: Shape = Shape {
    go: "types.ComponentVersion",
    fields: &[
        same("Name", Of::Text),
        same("Version", Of::Text),
        same("Details", Of::Map),
    ],
    complete: true,
};

static SERVER_VERSION: Shape = Shape {
    go: "*types.Version",
    fields: &[
        same("Platform", Of::Struct(&PLATFORM)),
        same("Components", Of::Structs(&COMPONENT)),
        same("Version", Of::Text),
        field("APIVersion", "ApiVersion", Of::Text),
        same("MinAPIVersion", Of::Text),
        same("GitCommit", Of::Text),
        same("GoVersion", Of::Text),
        same("Os", Of::Text),
        same("Arch", Of::Text),
        same("KernelVersion", Of::Text),
        same("Experimental", Of::Truth),
        same("BuildTime", Of::Text),
    ],
    complete: true,
};

static CLIENT_VERSION: Shape = Shape {
    go: "system.clientVersion",
    fields: &[
        same("Platform", Of::StructPointer(&PLATFORM)),
        same("Version", Of::Text),
        field("APIVersion", "ApiVersion", Of::Text),
        same("DefaultAPIVersion", Of::Text),
        same("GitCommit", Of::Text),
        same("GoVersion", Of::Text),
        same("Os", Of::Text),
        same("Arch", Of::Text),
        same("BuildTime", Of::Text),
        same("Context", Of::Text),
    ],
    complete: true,
};

/// What `version` shows.
pub(crate) static VERSION: Shape = Shape {
    go: "system.versionInfo",
    fields: &[
        same("Client", Of::Struct(&CLIENT_VERSION)),
        same("Server", Of::StructPointer(&SERVER_VERSION)),
    ],
    complete: true,
};

/// What `info` shows.
pub(crate) static INFO: Shape = Shape {
    go: "system.dockerInfo",
    fields: &[
        field("CPUCfsPeriod", "CpuCfsPeriod", Of::Truth),
        field("CPUCfsQuota", "CpuCfsQuota", Of::Truth),
        field("HTTPProxy", "HttpProxy", Of::Text),
        field("HTTPSProxy", "HttpsProxy", Of::Text),
        same("NoProxy", Of::Text),
        same("Labels", Of::List),
        same("ProductLicense", Of::Text),
        same("DefaultAddressPools", Of::List),
        same("ServerErrors", Of::List),
        same("Warnings", Of::List),
        same("SystemStatus", Of::List),
        same("KernelMemory", Of::Truth),
        same("ClusterStore", Of::Text),
    ],
    complete: false,
};

static ACTOR: Shape = Shape {
    go: "events.Actor",
    fields: &[same("ID", Of::Text), same("Attributes", Of::Map)],
    complete: true,
};

/// One event.
pub(crate) static EVENT: Shape = Shape {
    go: "*events.Message",
    fields: &[
        field("Status", "status", Of::Text),
        field("ID", "id", Of::Text),
        field("From", "from", Of::Text),
        same("Type", Of::Text),
        same("Action", Of::Text),
        same("Actor", Of::Struct(&ACTOR)),
        field("Scope", "scope", Of::Text),
        field("Time", "time", Of::Number),
        field("TimeNano", "timeNano", Of::Number),
    ],
    complete: true,
};

static PORT_BINDING: Shape = Shape {
    go: "nat.PortBinding",
    fields: &[
        field("HostIP", "HostIp", Of::Text),
        field("HostPort", "HostPort", Of::Text),
    ],
    complete: true,
};

static STATE: Shape = Shape {
    go: "*container.State",
    fields: &[
        same("Status", Of::Text),
        same("Running", Of::Truth),
        same("Paused", Of::Truth),
        same("Restarting", Of::Truth),
        same("OOMKilled", Of::Truth),
        same("Dead", Of::Truth),
        same("Pid", Of::Number),
        same("ExitCode", Of::Number),
        same("Error", Of::Text),
        same("StartedAt", Of::Text),
        same("FinishedAt", Of::Text),
        same("Health", Of::Pointer),
    ],
    complete: true,
};

static CONFIG: Shape = Shape {
    go: "*container.Config",
    fields: &[
        same("ExposedPorts", Of::Map),
        same("Healthcheck", Of::Pointer),
        same("ArgsEscaped", Of::Truth),
        same("NetworkDisabled", Of::Truth),
        same("MacAddress", Of::Text),
        same("StopSignal", Of::Text),
        same("StopTimeout", Of::Pointer),
        same("Shell", Of::List),
    ],
    complete: false,
};

static RESTART_POLICY: Shape = Shape {
    go: "container.RestartPolicy",
    fields: &[
        same("Name", Of::Text),
        same("MaximumRetryCount", Of::Number),
    ],
    complete: true,
};

static LOG_CONFIG: Shape = Shape {
    go: "container.LogConfig",
    fields: &[same("Type", Of::Text), same("Config", Of::Map)],
    complete: true,
};

static HOST_CONFIG: Shape = Shape {
    go: "*container.HostConfig",
    fields: &[
        same("LogConfig", Of::Struct(&LOG_CONFIG)),
        same("PortBindings", Of::StructsByName(&PORT_BINDING)),
        same("RestartPolicy", Of::Struct(&RESTART_POLICY)),
        same("Annotations", Of::Map),
        field("DNS", "Dns", Of::List),
        field("DNSOptions", "DnsOptions", Of::List),
        field("DNSSearch", "DnsSearch", Of::List),
        same("StorageOpt", Of::Map),
        same("Tmpfs", Of::Map),
        same("Sysctls", Of::Map),
        field("CPUShares", "CpuShares", Of::Number),
        field("NanoCPUs", "NanoCpus", Of::Number),
        field("CPUPeriod", "CpuPeriod", Of::Number),
        field("CPUQuota", "CpuQuota", Of::Number),
        field("CPURealtimePeriod", "CpuRealtimePeriod", Of::Number),
        field("CPURealtimeRuntime", "CpuRealtimeRuntime", Of::Number),
        field("CPUCount", "CpuCount", Of::Number),
        field("CPUPercent", "CpuPercent", Of::Number),
        same("KernelMemory", Of::Number),
        same("KernelMemoryTCP", Of::Number),
        same("Mounts", Of::List),
        same("Init", Of::Pointer),
    ],
    complete: false,
};

static NETWORK_SETTINGS: Shape = Shape {
    go: "*container.NetworkSettings",
    fields: &[same("Ports", Of::StructsByName(&PORT_BINDING))],
    complete: false,
};

/// What `volume inspect` shows.
pub(crate) static VOLUME: Shape = Shape {
    go: "volume.Volume",
    fields: &[
        same("CreatedAt", Of::Text),
        same("Driver", Of::Text),
        same("Labels", Of::Map),
        same("Mountpoint", Of::Text),
        same("Name", Of::Text),
        same("Options", Of::Map),
        same("Scope", Of::Text),
        same("Status", Of::Map),
        same("UsageData", Of::Pointer),
    ],
    complete: true,
};

static IPAM_CONFIG: Shape = Shape {
    go: "network.IPAMConfig",
    fields: &[
        same("Subnet", Of::Text),
        same("IPRange", Of::Text),
        same("Gateway", Of::Text),
        field("AuxAddress", "AuxiliaryAddresses", Of::Map),
    ],
    complete: true,
};

static IPAM: Shape = Shape {
    go: "network.IPAM",
    fields: &[
        same("Driver", Of::Text),
        same("Options", Of::Map),
        same("Config", Of::Structs(&IPAM_CONFIG)),
    ],
    complete: true,
};

static CONFIG_REFERENCE: Shape = Shape {
    go: "network.ConfigReference",
    fields: &[same("Network", Of::Text)],
    complete: true,
};

static ENDPOINT_RESOURCE: Shape = Shape {
    go: "network.EndpointResource",
    fields: &[
        same("Name", Of::Text),
        same("EndpointID", Of::Text),
        same("MacAddress", Of::Text),
        same("IPv4Address", Of::Text),
        same("IPv6Address", Of::Text),
    ],
    complete: true,
};

/// What `inspect` gets of a network.
pub(crate) static NETWORK: Shape = Shape {
    go: "network.Inspect",
    fields: &[
        same("Name", Of::Text),
        field("ID", "Id", Of::Text),
        same("Created", Of::Time),
        same("Scope", Of::Text),
        same("Driver", Of::Text),
        same("EnableIPv4", Of::Truth),
        same("EnableIPv6", Of::Truth),
        same("IPAM", Of::Struct(&IPAM)),
        same("Internal", Of::Truth),
        same("Attachable", Of::Truth),
        same("Ingress", Of::Truth),
        same("ConfigFrom", Of::Struct(&CONFIG_REFERENCE)),
        same("ConfigOnly", Of::Truth),
        same("Containers", Of::StructByName(&ENDPOINT_RESOURCE)),
        same("Options", Of::Map),
        same("Labels", Of::Map),
        same("Peers", Of::List),
        same("Services", Of::Map),
    ],
    complete: true,
};

/// What `inspect` gets of a container.
pub(crate) static CONTAINER: Shape = Shape {
    go: "container.InspectResponse",
    fields: &[
        field("ID", "Id", Of::Text),
        same("State", Of::StructPointer(&STATE)),
        same("Config", Of::StructPointer(&CONFIG)),
        same("HostConfig", Of::StructPointer(&HOST_CONFIG)),
        same("NetworkSettings", Of::StructPointer(&NETWORK_SETTINGS)),
        same("SizeRw", Of::Pointer),
        same("SizeRootFs", Of::Pointer),
        same("ImageManifestDescriptor", Of::Pointer),
    ],
    complete: false,
};

static IMAGE_CONFIG: Shape = Shape {
    go: "*dockerspec.DockerOCIImageConfig",
    fields: &[
        same("User", Of::Text),
        same("ExposedPorts", Of::Map),
        same("Env", Of::List),
        same("Entrypoint", Of::List),
        same("Cmd", Of::List),
        same("Volumes", Of::Map),
        same("WorkingDir", Of::Text),
        same("Labels", Of::Map),
        same("StopSignal", Of::Text),
        same("ArgsEscaped", Of::Truth),
        same("Healthcheck", Of::Pointer),
        same("OnBuild", Of::List),
        same("Shell", Of::List),
    ],
    complete: true,
};

/// What `inspect` gets of an image.
pub(crate) static IMAGE: Shape = Shape {
    go: "image.InspectResponse",
    fields: &[
        field("ID", "Id", Of::Text),
        same("Config", Of::StructPointer(&IMAGE_CONFIG)),
        same("Variant", Of::Text),
        same("OsVersion", Of::Text),
        same("VirtualSize", Of::Number),
        same("Descriptor", Of::Pointer),
        same("Manifests", Of::List),
    ],
    complete: false,
};

/// What is known of a value beside its members.
#[derive(Debug)]
struct Known {
    /// Keeps its address from being used again.
    value: Value,
    json: Json,
    /// Of a struct: its fields in order.
    order: Option<Vec<String>>,
}

thread_local! {
    /// By address: values of templates have no room for more.
    static KNOWN: RefCell<HashMap<usize, Known>> = RefCell::default();
}

fn address(value: &Value) -> Option<usize> {
    match value {
        Value::Map(fields) => Some(Arc::as_ptr(fields) as usize),
        Value::List(items) if !items.is_empty() => Some(items.as_ptr() as usize),
        _ => None,
    }
}

fn remember(value: Value, json: &Json, order: Option<Vec<String>>) -> Value {
    if let Some(address) = address(&value) {
        let known = Known {
            value: value.clone(),
            json: json.clone(),
            order,
        };
        KNOWN.with_borrow_mut(|all| all.insert(address, known));
    }
    value
}

/// The JSON that a typed value was made from: its members have their order.
pub(super) fn original(value: &Value) -> Option<Json> {
    KNOWN.with_borrow(|all| all.get(&address(value)?).map(|known| known.json.clone()))
}

/// Whether a value stands for a struct, not a map.
pub(super) fn is_struct(value: &Value) -> bool {
    let order = |known: &Known| known.order.is_some();
    address(value).is_some_and(|at| KNOWN.with_borrow(|all| all.get(&at).is_some_and(order)))
}

/// Forgets all typed values.
pub(crate) fn forget() {
    KNOWN.with_borrow_mut(|all| {
        debug_assert!(all.values().all(|known| address(&known.value).is_some()));
        all.clear();
    });
}

/// The daemon's JSON as a value of a Go type.
pub(crate) fn typed(json: &Json, shape: &'static Shape) -> Value {
    let Json::Object(members) = json else {
        return Value::Nil;
    };
    let mut fields: BTreeMap<Arc<str>, Value> = BTreeMap::new();
    let mut order = Vec::new();
    for field in shape.fields {
        let value = of_type(json.get(field.json), field.of, field.name);
        fields.insert(field.name.into(), value);
    }
    let by_json = |key: &str| shape.fields.iter().find(|field| field.json == key);
    if shape.complete {
        order.extend(shape.fields.iter().map(|field| field.name.to_owned()));
    } else {
        for (key, value) in members {
            if let Some(field) = by_json(key) {
                order.push(field.name.to_owned());
            } else {
                order.push(key.clone());
                fields.insert(key.as_str().into(), plain(value, key));
            }
        }
    }
    remember(Value::Map(Arc::new(fields)), json, Some(order))
}

/// Members of which nothing is described.
fn plain(json: &Json, key: &str) -> Value {
    let value = match json {
        Json::Array(items) => Value::List(items.iter().map(|item| plain(item, "")).collect()),
        Json::Object(members) => Value::Map(Arc::new(
            members
                .iter()
                .map(|(key, value)| (Arc::from(key.as_str()), plain(value, key)))
                .collect(),
        )),
        other => return super::from_json(other, key),
    };
    remember(value, json, None)
}

fn of_type(json: Option<&Json>, of: Of, name: &str) -> Value {
    let json = json.filter(|json| !json.is_null());
    let object = json.and_then(Json::as_object);
    match (of, json) {
        (Of::Text, None) => Value::String("".into()),
        (Of::Number, None) => Value::Int(0),
        (Of::Truth, None) => Value::Bool(false),
        (Of::Pointer | Of::StructPointer(_), None) => Value::Nil,
        (Of::List | Of::Structs(_), None) => super::template::null_list(),
        (Of::Time, json) => {
            let text = json.and_then(Json::as_str);
            let text = text.unwrap_or("0001-01-01T00:00:00Z");
            Value::String(super::go_time(text).into())
        }
        (Of::Map | Of::StructByName(_) | Of::StructsByName(_), None) => super::template::null_map(),
        (Of::Struct(shape), None) => typed(&Json::Object(serde_json::Map::new()), shape),
        (Of::Struct(shape) | Of::StructPointer(shape), Some(json)) => typed(json, shape),
        (Of::Structs(shape), Some(json)) => {
            let items = json.as_array().into_iter().flatten();
            let list = items.map(|item| typed(item, shape)).collect();
            remember(Value::List(list), json, None)
        }
        (Of::StructByName(shape), Some(json)) => {
            let members = object.into_iter().flatten();
            let map = members.map(|(key, value)| (Arc::from(key.as_str()), typed(value, shape)));
            remember(Value::Map(Arc::new(map.collect())), json, None)
        }
        (Of::StructsByName(shape), Some(json)) => {
            let members = object.into_iter().flatten();
            let map = members.map(|(key, value)| {
                (
                    Arc::from(key.as_str()),
                    of_type(Some(value), Of::Structs(shape), key),
                )
            });
            remember(Value::Map(Arc::new(map.collect())), json, None)
        }
        (_, Some(json)) => plain(json, name),
    }
}

/// A value as Go prints it: structs in braces, maps with their keys.
pub(super) fn printed(value: &Value) -> String {
    match value {
        Value::Nil => "<nil>".to_owned(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(printed).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Map(fields) => {
            let order = KNOWN.with_borrow(|all| {
                let known = all.get(&address(value)?)?;
                known.order.clone()
            });
            match order {
                Some(order) => {
                    let values = order.iter().filter_map(|name| fields.get(name.as_str()));
                    let values: Vec<String> = values.map(printed).collect();
                    format!("{{{}}}", values.join(" "))
                }
                None => {
                    let pairs = fields
                        .iter()
                        .filter(|(_, value)| !value.is_function())
                        .map(|(key, value)| format!("{key}:{}", printed(value)));
                    format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
                }
            }
        }
        other => other.to_string(),
    }
}

/// The type that has the last name of a chain like `.Server.Nope`, as Go calls it.
pub(super) fn type_at(shape: &'static Shape, chain: &str) -> Option<&'static str> {
    let mut shape = shape;
    for name in chain.split('.').filter(|name| !name.is_empty()) {
        let field = shape.fields.iter().find(|field| field.name == name)?;
        shape = match field.of {
            Of::Struct(shape) | Of::StructPointer(shape) => shape,
            _ => return None,
        };
    }
    Some(shape.go)
}
