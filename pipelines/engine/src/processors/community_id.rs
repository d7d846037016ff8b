//! `community_id`: a digest of the two ends of a connection, the same in both directions and from every tool that makes it.
//!
//! Elasticsearch's and OpenSearch's processors of this name have other options. One of OpenSearch's (`source_ip_field`)
//! asks for the latter, everything else is the former.

mod elastic;
mod flow;
mod opensearch;

use crate::failure::Problem;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step};
use event::{Event, FieldPath, Value};

pub(crate) const OPTIONS: &[&str] = &[
    "destination_ip",
    "destination_ip_field",
    "destination_port",
    "destination_port_field",
    "iana_number",
    "iana_protocol_number_field",
    "icmp_code",
    "icmp_code_field",
    "icmp_type",
    "icmp_type_field",
    "ignore_missing",
    "protocol_field",
    "seed",
    "source_ip",
    "source_ip_field",
    "source_port",
    "source_port_field",
    "target_field",
    "transport",
];

/// Fields of a document that say what flowed. `None`: the option is not written, and has no default.
#[derive(Debug)]
struct Fields {
    source_ip: Option<FieldPath>,
    source_port: Option<FieldPath>,
    destination_ip: Option<FieldPath>,
    destination_port: Option<FieldPath>,
    iana_number: Option<FieldPath>,
    transport: Option<FieldPath>,
    icmp_type: Option<FieldPath>,
    icmp_code: Option<FieldPath>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Elasticsearch,
    OpenSearch,
}

#[derive(Debug)]
struct CommunityId {
    form: Form,
    fields: Fields,
    target: FieldPath,
    seed: u16,
    ignore_missing: bool,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let is_opensearch =
        OPTIONS.iter().any(|name| name.ends_with("_field") && *name != "target_field" && options.has(name));
    let (form, fields) = match is_opensearch {
        true => (Form::OpenSearch, opensearch::fields(options)?),
        false => (Form::Elasticsearch, elastic::fields(options)?),
    };
    let (target, ignore_missing, wrong) = match form {
        Form::OpenSearch => ("community_id", false, "[seed] seed must be between 0 and 65535"),
        Form::Elasticsearch => ("network.community_id", true, "[seed] must be a value between 0 and 65535"),
    };
    let seed = u16::try_from(options.int("seed", 0)?).map_err(|_| wrong)?;
    let target = options.path_or_text("target_field", target)?;
    let ignore_missing = options.flag("ignore_missing", ignore_missing)?;
    Ok(Box::new(CommunityId { form, fields, target, seed, ignore_missing }))
}

impl Step for CommunityId {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let flow = match self.form {
            Form::Elasticsearch => elastic::flow(event, &self.fields, self.ignore_missing)?,
            Form::OpenSearch => opensearch::flow(event, &self.fields, self.ignore_missing)?,
        };
        if let Some(flow) = flow {
            event.set(&self.target, Value::from(flow.id(self.seed)))?;
        }
        Ok(Flow::Continue)
    }
}
