"""Model providers between core and protobuf; nothing else."""

from fased.api.policy.v1 import model_provider_pb2
from fased.core.model_providers import ModelProvider, ProviderDefinition, checked_type
from fased.core.names import parse_resource_name, resource_name
from fased.wire.times import from_timestamp, to_timestamp

PROVIDERS = "modelProviders"


def provider_to_pb(provider: ModelProvider) -> model_provider_pb2.ModelProvider:
    """A provider as it stands."""
    definition = provider.definition
    return model_provider_pb2.ModelProvider(
        name=resource_name(provider.namespace, PROVIDERS, provider.id),
        type=definition.type,
        base_url=definition.base_url,
        credential=definition.credential,
        default_model=definition.default_model,
        managed_by=provider.managed_by,
        create_time=to_timestamp(provider.created_at),
        update_time=to_timestamp(provider.updated_at),
    )


def provider_from_pb(provider: model_provider_pb2.ModelProvider) -> ModelProvider:
    """A provider under its name; raises InvalidArgument for a name or a type that is none."""
    namespace, provider_id = parse_resource_name(provider.name, PROVIDERS)
    return ModelProvider(
        namespace=namespace,
        id=provider_id,
        definition=ProviderDefinition(
            type=checked_type(provider.type),
            base_url=provider.base_url.strip().rstrip("/"),
            credential=provider.credential.strip(),
            default_model=provider.default_model,
        ),
        managed_by=provider.managed_by,
        created_at=from_timestamp(provider, "create_time"),
        updated_at=from_timestamp(provider, "update_time"),
    )
