//! librdkafka's error → what becomes of the records it was reported for. One table, and nothing that is not in it.
//!
//! What librdkafka tries again by itself never gets here: a report with an error is its last word.

use rdkafka::error::RDKafkaErrorCode;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// It passes by itself, or when somebody repairs it: hold the topic for a moment and read again.
    Retry,
    /// The same, after a look at the topic: it is gone, or has other partitions.
    LookAgain,
    /// One record was too large, or all of them together: hold the file, send its records one by one. The one that is too
    /// large by itself goes the way of `kafka.too_large`.
    TooLarge,
    /// One record is not taken, whatever its neighbours: hold the file, send its records one by one. The one that is refused
    /// by itself becomes a dead letter.
    Refused,
    /// The producer can no longer be trusted: make a new one and read again.
    Rebuild,
    /// The configuration asks for what this cluster never takes: stop, a person is needed.
    Stop,
}

/// What is to be done about `code`. One that is not in the table is of a newer librdkafka: then a new producer.
pub(crate) fn remedy(code: RDKafkaErrorCode) -> Remedy {
    TABLE.iter().find(|(_, codes)| codes.contains(&code)).map_or(Remedy::Rebuild, |(remedy, _)| *remedy)
}

/// Every code that librdkafka has.
/// Source: `rd_kafka_resp_err_t` in rdkafka.h, and `rd_kafka_handle_Produce_error` for what is final there.
const TABLE: &[(Remedy, &[RDKafkaErrorCode])] = {
    use RDKafkaErrorCode as E;
    &[
        // The connection, the broker, its replicas, and rights: with the file as the buffer they can take their time.
        (
            Remedy::Retry,
            &[
                E::AllBrokersDown,
                E::Authentication,
                E::BrokerDestroy,
                E::BrokerNotAvailable,
                E::BrokerTransportFailure,
                E::ClusterAuthorizationFailed,
                E::CoordinatorLoadInProgress,
                E::CoordinatorNotAvailable,
                E::DelegationTokenAuthDisabled,
                E::DelegationTokenAuthorizationFailed,
                E::DelegationTokenExpired,
                E::DelegationTokenNotFound,
                E::DelegationTokenOwnerMismatch,
                E::DelegationTokenRequestNotAllowed,
                E::DestroyBroker,
                E::EligibleLeadersNotAvailable,
                E::FencedLeaderEpoch,
                E::ISRInsufficient,
                E::IllegalSASLState,
                E::InProgress,
                E::Interrupted,
                E::KafkaStorageError,
                E::LeaderNotAvailable,
                E::ListenerNotFound,
                E::LogDirNotFound,
                E::MessageTimedOut,
                E::NetworkException,
                E::NoError,
                E::NodeUpdate,
                E::Noop,
                E::NotController,
                E::NotCoordinator,
                E::NotEnoughReplicas,
                E::NotEnoughReplicasAfterAppend,
                E::NotLeaderForPartition,
                E::OffsetNotAvailable,
                E::OperationNotAttempted,
                E::OperationTimedOut,
                E::Outdated,
                E::Partial,
                E::PolicyViolation,
                E::PreferredLeaderNotAvailable,
                E::PreviousInProgress,
                E::PrincipalDeserializationFailure,
                E::PurgeInflight,
                E::PurgeQueue,
                E::QueueFull,
                E::ReassignmentInProgress,
                E::RebootstrapRequired,
                E::ReplicaNotAvailable,
                E::RequestTimedOut,
                E::Resolve,
                E::Retry,
                E::SSL,
                E::SaslAuthenticationFailed,
                E::SecurityDisabled,
                E::StaleBrokerEpoch,
                E::StaleControllerEpoch,
                E::ThrottlingQuotaExceeded,
                E::TimedOutQueue,
                E::TopicAuthorizationFailed,
                E::UnknownBroker,
                E::UnknownLeaderEpoch,
                E::UnsupportedSASLMechanism,
                E::WaitCache,
                E::WaitingForCoordinator,
            ],
        ),
        (
            Remedy::LookAgain,
            &[E::InvalidTopic, E::UnknownPartition, E::UnknownTopic, E::UnknownTopicId, E::UnknownTopicOrPartition],
        ),
        (Remedy::TooLarge, &[E::InvalidMessageSize, E::MessageBatchTooLarge, E::MessageSizeTooLarge]),
        (
            Remedy::Refused,
            &[
                E::BadMessage,
                E::InvalidDifferentRecord,
                E::InvalidMessage,
                E::InvalidRecord,
                E::InvalidTimestamp,
                E::KeySerialization,
                E::ValueSerialization,
            ],
        ),
        // Sequences and epochs that no longer fit, faults of the library itself, and what no producer is ever told.
        (
            Remedy::Rebuild,
            &[
                E::Application,
                E::AssignPartitions,
                E::AssignmentLost,
                E::AutoOffsetReset,
                E::BadCompression,
                E::ConcurrentTransactions,
                E::Conflict,
                E::CriticalSystemResource,
                E::DuplicateResource,
                E::DuplicateSequenceNumber,
                E::ElectionNotNeeded,
                E::ExistingSubscription,
                E::Fail,
                E::Fatal,
                E::FeatureUpdateFailed,
                E::FencedInstanceId,
                E::FencedMemberEpoch,
                E::FetchSessionIdNotFound,
                E::FileSystem,
                E::GaplessGuarantee,
                E::GroupAuthorizationFailed,
                E::GroupIdNotFound,
                E::GroupMaxSizeReached,
                E::GroupSubscribedToTopic,
                E::IllegalGeneration,
                E::Inconsistent,
                E::InconsistentGroupProtocol,
                E::InconsistentVoterSet,
                E::InvalidCommitOffsetSize,
                E::InvalidFetchSessionEpoch,
                E::InvalidGroupId,
                E::InvalidPartitions,
                E::InvalidPrincipalType,
                E::InvalidProducerEpoch,
                E::InvalidProducerIdMapping,
                E::InvalidReplicaAssignment,
                E::InvalidReplicationFactor,
                E::InvalidSessionTimeout,
                E::InvalidTransactionalState,
                E::InvalidUpdateVersion,
                E::KeyDeserialization,
                E::LogTruncation,
                E::MemberIdRequired,
                E::NoEnt,
                E::NoOffset,
                E::NoReassignmentInProgress,
                E::NonEmptyGroup,
                E::OffsetMetadataTooLarge,
                E::OffsetOutOfRange,
                E::OutOfOrderSequenceNumber,
                E::PartitionEOF,
                E::PollExceeded,
                E::ReadOnly,
                E::RebalanceInProgress,
                E::ResourceNotFound,
                E::RevokePartitions,
                E::StaleMemberEpoch,
                E::State,
                E::TelemetryTooLarge,
                E::TopicAlreadyExists,
                E::TopicDeletionDisabled,
                E::TransactionCoordinatorFenced,
                E::UnacceptableCredential,
                E::Underflow,
                E::Unknown,
                E::UnknownGroup,
                E::UnknownMemberId,
                E::UnknownProducerId,
                E::UnknownSubscriptionId,
                E::UnreleasedInstanceId,
                E::UnstableOffsetCommit,
                E::UnsupportedAssignor,
                E::ValueDeserialization,
            ],
        ),
        (
            Remedy::Stop,
            &[
                E::Fenced,
                E::InvalidArgument,
                E::InvalidConfig,
                E::InvalidRequest,
                E::InvalidRequiredAcks,
                E::InvalidTransactionTimeout,
                E::InvalidType,
                E::NotConfigured,
                E::NotImplemented,
                E::ProducerFenced,
                E::TransactionalIdAuthorizationFailed,
                E::UnknownProtocol,
                E::UnsupportedCompressionType,
                E::UnsupportedFeature,
                E::UnsupportedForMessageFormat,
                E::UnsupportedVersion,
            ],
        ),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_librdkafka_stands_in_the_table_once() {
        let rows = |code| TABLE.iter().flat_map(|(_, codes)| codes.iter()).filter(|row| **row == code).count();
        let codes = crate::ffi::all_codes();
        assert!(codes.len() > 150, "librdkafka tells of {} codes", codes.len());
        let wrong: Vec<_> = codes.into_iter().map(|code| (code, rows(code))).filter(|(_, rows)| *rows != 1).collect();
        assert!(wrong.is_empty(), "code and rows: {wrong:?}");
    }

    #[test]
    fn what_was_not_delivered_is_never_called_settled_or_lost() {
        for (code, expected) in [
            (RDKafkaErrorCode::PurgeQueue, Remedy::Retry),
            (RDKafkaErrorCode::TopicAuthorizationFailed, Remedy::Retry),
            (RDKafkaErrorCode::UnknownPartition, Remedy::LookAgain),
            (RDKafkaErrorCode::MessageSizeTooLarge, Remedy::TooLarge),
            (RDKafkaErrorCode::InvalidRecord, Remedy::Refused),
            (RDKafkaErrorCode::OutOfOrderSequenceNumber, Remedy::Rebuild),
            (RDKafkaErrorCode::UnsupportedForMessageFormat, Remedy::Stop),
        ] {
            assert_eq!(remedy(code), expected, "{code:?}");
        }
    }
}
