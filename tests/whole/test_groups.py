"""Tests of one group share a server, a browser or executed notebooks: they stay on one worker."""

import os

import pytest


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process: nothing to share")
@pytest.mark.xdist_group("a-group")
def test_a_group_stays_on_one_worker(request):
    # pytest 9.2.0 and pytest-xdist 3.8.0 together lose the group: each worker starts its own
    assert request.node.nodeid.endswith("@a-group")
