//! `geoip`: where an address is, or whose it is, by a MaxMind database.
//!
//! The database is looked for in the folder `geoip` beside the pipeline file. If it is not there a document is given the
//! tag `_geoip_database_unavailable_NAME`, as Elasticsearch does.

use super::append::append;
use crate::failure::Problem;
use crate::mmdb::Database;
use crate::options::{Options, Wrong};
use crate::pipeline::{Flow, Run, Step};
use compact_str::CompactString;
use event::{Event, FieldPath, Object, Value};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub(crate) const OPTIONS: &[&str] = &[
    "database_file",
    "download_database_on_pipeline_creation",
    "field",
    "first_only",
    "ignore_missing",
    "properties",
    "target_field",
];

/// What a document is given for each kind of database: the properties there are, and those of the default.
const CITY: (&[&str], &[&str]) = (
    &[
        "city_name",
        "continent_code",
        "continent_name",
        "country_iso_code",
        "country_name",
        "ip",
        "location",
        "postal_code",
        "region_iso_code",
        "region_name",
        "timezone",
    ],
    &["city_name", "continent_name", "country_iso_code", "country_name", "location", "region_iso_code", "region_name"],
);
const COUNTRY: (&[&str], &[&str]) = (
    &["continent_code", "continent_name", "country_iso_code", "country_name", "ip"],
    &["continent_name", "country_iso_code", "country_name"],
);
const ASN: (&[&str], &[&str]) =
    (&["asn", "ip", "network", "organization_name"], &["asn", "ip", "network", "organization_name"]);

#[derive(Debug)]
struct GeoIp {
    field: FieldPath,
    target: FieldPath,
    database: Option<Arc<Database>>,
    properties: Vec<CompactString>,
    first_only: bool,
    ignore_missing: bool,
    tags: FieldPath,
    tag: String,
}

pub(crate) fn build(options: &mut Options<'_>) -> Result<Box<dyn Step>, Wrong> {
    let field = options.path("field")?;
    let target = match options.text_if_set("target_field")? {
        Some(text) => options.parse_path("target_field", &text)?,
        None => options.parse_path("target_field", "geoip")?,
    };
    options.flag("download_database_on_pipeline_creation", true)?; // Nothing is downloaded here.
    let file = options.text_if_set("database_file")?.unwrap_or(CompactString::const_new("GeoLite2-City.mmdb"));
    let database = options.database(&file).map_err(|wrong| format!("[database_file] {wrong}"))?;
    let asked = options.has("properties");
    let mut properties = options.texts("properties")?;
    if let Some(database) = &database {
        let (known, default) = match database.kind.as_str() {
            kind if kind.ends_with("-City") => CITY,
            kind if kind.ends_with("-Country") => COUNTRY,
            kind if kind.ends_with("-ASN") => ASN,
            other => return Err(format!("[database_file] Unsupported database type [{other}] for file [{file}]")),
        };
        if let Some(unknown) = properties.iter().find(|name| !known.contains(&name.to_lowercase().as_str())) {
            return Err(format!("[properties] illegal property value [{unknown}]. valid values are {known:?}"));
        }
        if !asked {
            properties = default.iter().map(|name| (*name).into()).collect();
        }
    }
    Ok(Box::new(GeoIp {
        field,
        target,
        database,
        properties: properties.iter().map(CompactString::to_lowercase).collect(),
        first_only: options.flag("first_only", true)?,
        ignore_missing: options.flag("ignore_missing", false)?,
        tags: options.parse_path("tags", "tags")?,
        tag: format!("_geoip_database_unavailable_{file}"),
    }))
}

impl Step for GeoIp {
    fn apply(&self, event: &mut Event, _: &Run<'_>) -> Result<Flow, Box<Problem>> {
        let field = &self.field;
        let made = match event.get(field) {
            None | Some(Value::Null) if self.ignore_missing => return Ok(Flow::Continue),
            None => return Err(event.resolve(field).err().map_or_else(|| Problem::new("missing"), Into::into)),
            Some(Value::Null) => {
                return Err(Problem::new(format!("field [{field}] is null, cannot extract geoip information.")));
            }
            Some(_) if self.database.is_none() => {
                append(event, &self.tags, Value::from(self.tag.as_str()), true)?;
                return Ok(Flow::Continue);
            }
            Some(Value::Text(address)) => self.find(address)?,
            Some(Value::Array(addresses)) => self.find_all(addresses)?,
            Some(_) => {
                return Err(Problem::new(format!("field [{field}] should contain only string or array of strings")));
            }
        };
        if let Some(made) = made {
            event.set(&self.target, made)?;
        }
        Ok(Flow::Continue)
    }
}

impl GeoIp {
    fn find_all(&self, addresses: &[Value]) -> Result<Option<Value>, Box<Problem>> {
        let mut all = Vec::with_capacity(addresses.len());
        for address in addresses {
            let Value::Text(address) = address else {
                return Err(Problem::new("array in field should only contain strings"));
            };
            let found = self.find(address)?;
            if self.first_only && found.is_some() {
                return Ok(found);
            }
            all.push(found.unwrap_or_default());
        }
        let found = all.iter().any(|found| *found != Value::Null);
        Ok((found && !self.first_only).then_some(Value::Array(all)))
    }

    /// What is known of `address`. `None` if nothing is.
    fn find(&self, address: &str) -> Result<Option<Value>, Box<Problem>> {
        let Ok(ip) = address.parse::<IpAddr>() else {
            return Err(Problem::new(format!("'{address}' is not an IP string literal.")));
        };
        let Some(database) = &self.database else { return Ok(None) };
        let Some((record, prefix)) = database.find(ip).map_err(Problem::new)? else { return Ok(None) };
        let mut made = Object::with_capacity(self.properties.len());
        for name in &self.properties {
            if let Some(value) = property(name, &record, ip, prefix) {
                made.insert(name.clone(), value);
            }
        }
        Ok((!made.is_empty()).then_some(Value::Object(made)))
    }
}

fn member<'o>(object: &'o Object, path: &[&str]) -> Option<&'o Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(object.get(first)?, |value, key| match value {
        Value::Object(object) => object.get(key),
        _ => None,
    })
}

fn property(name: &str, record: &Object, ip: IpAddr, prefix: u8) -> Option<Value> {
    let at = |path: &[&str]| member(record, path).cloned();
    let region = || match record.get("subdivisions") {
        Some(Value::Array(subdivisions)) => match subdivisions.last() {
            Some(Value::Object(region)) => Some(region),
            _ => None,
        },
        _ => None,
    };
    match name {
        "ip" => Some(Value::from(ip.to_string())),
        "network" => Some(Value::from(network(ip, prefix))),
        "asn" => at(&["autonomous_system_number"]),
        "organization_name" => at(&["autonomous_system_organization"]),
        "city_name" => at(&["city", "names", "en"]),
        "continent_code" => at(&["continent", "code"]),
        "continent_name" => at(&["continent", "names", "en"]),
        "country_iso_code" => at(&["country", "iso_code"]),
        "country_name" => at(&["country", "names", "en"]),
        "postal_code" => at(&["postal", "code"]),
        "timezone" => at(&["location", "time_zone"]),
        "region_name" => member(region()?, &["names", "en"]).cloned(),
        "region_iso_code" => {
            let (country, region) = (at(&["country", "iso_code"])?, member(region()?, &["iso_code"])?);
            Some(Value::from(format!("{}-{}", country.as_text()?, region.as_text()?)))
        }
        "location" => {
            let (lat, lon) = (at(&["location", "latitude"])?, at(&["location", "longitude"])?);
            Some(Value::Object([("lat".into(), lat), ("lon".into(), lon)].into_iter().collect()))
        }
        _ => None,
    }
}

/// `10.0.0.0/8`: the bits behind the prefix are zero.
fn network(ip: IpAddr, prefix: u8) -> String {
    let address = match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(ip) & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(ip) & mask))
        }
    };
    format!("{address}/{prefix}")
}
