//! Rights that a cluster with an authorizer asks for, named when one is missing.

use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaErrorCode;

use super::{KafkaError, KafkaSettings};

impl KafkaError {
    /// [`Denied`](Self::Denied) if the error says that a right is missing. `right` is what the
    /// request needs, in the words of kafka-acls.sh: `Write on topic flight.positions`.
    pub fn denied(
        settings: &KafkaSettings,
        error: &ClientError,
        action: &str,
        right: impl FnOnce() -> String,
    ) -> Option<Self> {
        error
            .rdkafka_error_code()
            .filter(|code| is_denied(*code))
            .map(|_| Self::Denied {
                action: action.to_owned(),
                principal: settings.principal(),
                right: right(),
            })
    }
}

/// True for the codes by which the cluster says that a right is missing.
fn is_denied(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
    )
}
