//! From a location to its store. Whatever the cloud's own tools read from the environment counts:
//! keys, endpoints, regions, roles, proxies.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreScheme, Result, RetryConfig,
};
use url::Position;

use crate::runtime::choose_cryptography;
use crate::{Location, StoreError};

/// Time for one request, which moves some MiB at most.
const TIMEOUT: &str = "30 seconds";
const CONNECT_TIMEOUT: &str = "3 seconds";

pub(crate) fn open(location: &Location) -> Result<Arc<dyn ObjectStore>, StoreError> {
    choose_cryptography();
    build(location).map_err(|error| StoreError::new(location, error))
}

fn build(location: &Location) -> Result<Arc<dyn ObjectStore>> {
    let url = location.url().as_str();
    // A store of one's own inside a cluster is often without TLS, and its URL says so.
    let plain = ClientConfigKey::AllowHttp;
    let (timeout, connect) = (ClientConfigKey::Timeout, ClientConfigKey::ConnectTimeout);
    Ok(match location.scheme() {
        ObjectStoreScheme::AmazonS3 => {
            let builder = AmazonS3Builder::from_env().with_url(url).with_retry(retry());
            let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
            let plain_endpoint = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
            let builder = if plain_endpoint { builder.with_allow_http(true) } else { builder };
            let builder = builder
                .with_config(AmazonS3ConfigKey::Client(timeout), TIMEOUT)
                .with_config(AmazonS3ConfigKey::Client(connect), CONNECT_TIMEOUT);
            Arc::new(builder.build()?)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(url);
            Arc::new(builder.with_retry(retry()).build()?)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(url);
            Arc::new(builder.with_retry(retry()).build()?)
        }
        _ => {
            let host = &location.url()[..Position::BeforePath];
            let builder = HttpBuilder::new().with_url(host).with_retry(retry());
            let builder = builder
                .with_config(plain, "true")
                .with_config(timeout, TIMEOUT)
                .with_config(connect, CONNECT_TIMEOUT);
            Arc::new(builder.build()?)
        }
    })
}

/// Seven seconds or so of trying again: a store that is restarted is back by then, and a person who
/// mistyped a name has an answer.
fn retry() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(4),
            base: 2.0,
        },
        max_retries: 5,
        retry_timeout: Duration::from_secs(60),
    }
}
