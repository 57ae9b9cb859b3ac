"""A worker whose group knows no topics once: ``python -m tests.support.forgetful_worker``.

It is the real worker. When it assigns partitions for the first time, the brokers' last answer did not name our topics, as
a broker answers that has just come back; from then on it is as the brokers say.
"""

from typing import Any

from aiokafka.cluster import ClusterMetadata
from faust.assignor.partition_assignor import PartitionAssignor

from cli.main import main

assign = PartitionAssignor.assign


def assign_nothing(self: PartitionAssignor, cluster: ClusterMetadata, members: Any) -> Any:
    """Forget what was told, then assign; only once."""
    PartitionAssignor.assign = assign
    cluster._partitions.clear()
    return assign(self, cluster, members)


if __name__ == "__main__":
    PartitionAssignor.assign = assign_nothing
    main()
