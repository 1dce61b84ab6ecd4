"""The apiserver that other tests stand on. Decides nothing of ours."""

import pytest

from tests.support.kubernetes.access import CommandFailed, Kubernetes
from tests.support.kubernetes.apiserver import Apiserver

_READER = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: accounts}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: accounts}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: accounts}]
"""


async def test_the_admin_makes_objects(kubernetes: Kubernetes) -> None:
    await kubernetes.kubectl("create", "namespace", "objects")
    await kubernetes.kubectl("create", "configmap", "one", "--namespace=objects")
    got = await kubernetes.kubectl("get", "configmaps", "--namespace=objects", "--output=name")
    assert got == "configmap/one\n"


async def test_a_user_may_do_nothing_that_rbac_does_not_give(own_apiserver: Apiserver) -> None:
    alice = own_apiserver.user("alice", ["readers"])
    with pytest.raises(CommandFailed, match='User "alice" cannot list resource "secrets"'):
        await own_apiserver.kubectl("get", "secrets", kubeconfig=alice)


async def test_the_groups_of_a_user_count(own_apiserver: Apiserver) -> None:
    role = ("clusterrole", "readers", "--verb=list", "--resource=pods")
    binding = ("clusterrolebinding", "readers", "--clusterrole=readers", "--group=readers")
    await own_apiserver.kubectl("create", *role)
    await own_apiserver.kubectl("create", *binding)
    bob = own_apiserver.user("bob", ["others", "readers"])
    await own_apiserver.kubectl("get", "pods", kubeconfig=bob)


async def test_a_service_account_has_the_rights_of_its_role(kubernetes: Kubernetes) -> None:
    await kubernetes.kubectl("create", "namespace", "accounts")
    await kubernetes.kubectl("create", "serviceaccount", "reader", "--namespace=accounts")
    await kubernetes.kubectl("apply", "--filename=-", stdin=_READER)
    reader = await kubernetes.service_account_kubeconfig("accounts", "reader")
    await kubernetes.kubectl("get", "configmaps", kubeconfig=reader)
    with pytest.raises(CommandFailed, match="cannot create resource"):
        await kubernetes.kubectl("create", "configmap", "two", kubeconfig=reader)


async def test_the_audit_log_names_each_request_and_its_outcome(own_apiserver: Apiserver) -> None:
    carol = own_apiserver.user("carol")
    mark = own_apiserver.audit_mark()
    with pytest.raises(CommandFailed, match="forbidden"):
        await own_apiserver.kubectl(
            "get", "deployment/web", "--subresource=scale", kubeconfig=carol
        )
    asked = [each for each in own_apiserver.audit(mark) if each.user == "carol"]
    assert [each.permission for each in asked] == [
        ("carol", "get", "apps", "deployments", "scale", "default")
    ]
    assert [(each.name, each.code) for each in asked] == [("web", 403)]


async def test_a_killed_apiserver_comes_back_with_its_objects(own_apiserver: Apiserver) -> None:
    await own_apiserver.kubectl("create", "namespace", "kept")
    own_apiserver.kill()
    assert not await own_apiserver.is_ready()
    await own_apiserver.restart()
    assert (
        await own_apiserver.kubectl("get", "namespace/kept", "--output=name") == "namespace/kept\n"
    )
