"""A worker that asks a troubled provider again every two seconds: ``python -m tests.support.eager_worker``.

It is the real worker but for the distance of its probes: a minute for an account at fault, half a minute for a provider
that fails (streams/core/circuit_breaker.py, which has its own tests).
"""

from cli.main import main
from streams.core import circuit_breaker

PROBE_SECONDS = 2.0

if __name__ == "__main__":
    circuit_breaker.ACCOUNT_PROBE_SECONDS = circuit_breaker.BREAKER_PROBE_SECONDS = PROBE_SECONDS
    main()
