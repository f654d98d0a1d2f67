"""A test that the tests of one file run in one worker: its fixtures start servers."""


def test_every_test_has_its_group_in_a_worker(request):
    if hasattr(request.config, "workerinput"):
        assert all("@" in item.nodeid for item in request.session.items)
