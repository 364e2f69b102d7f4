"""The egress example: ports that lead out of the cluster, to an address and to a DNS name."""

import contextlib

from nameserver import NameServer
from plane import ControlPlane
from planes import MakePod, Serve
from reports import await_admission
from stand import slice_manifest


def test_the_egress_example_leads_out(
    plane: ControlPlane, make_pod: MakePod, serve: Serve, namespace: str
) -> None:
    database, broker = serve("database", 5432), serve("broker", 8883)
    for item in plane.overlay("egress"):
        if item["kind"] != "Namespace":
            item["metadata"]["namespace"] = namespace
            plane.apply(item)
    with contextlib.closing(NameServer()) as names:
        names.zone["broker.example.com"] = [f"A {broker.address.ip}"]
        pod = make_pod(dns={"servers": [names.address]}).await_ready()
        pod.await_leads_to(30002, "broker")
        await_admission(plane, namespace, "broker", "Admitted")

        # Its own destination is nobody's here; put another there, as users do.
        plane.kubectl("delete", "endpointslice", "database-outside", "-n", namespace)
        outside = slice_manifest(
            "database", [database], namespace=namespace, port=5432, port_name="postgres"
        )
        plane.apply(outside)
        pod.await_leads_to(30001, "database")
        await_admission(plane, namespace, "database", "Admitted")

        # The name moves, and its port goes with it.
        other = serve("other", 8883)
        names.zone["broker.example.com"] = [f"A {other.address.ip}"]
        pod.await_leads_to(30002, "other")
