"""The real frontend in a headless Chromium: the version that the host asks for, and the newest released one.

Without a Chromium these tests are skipped; with CI=true or NAG_REQUIRE_BROWSER=1 they fail.
"""
import os

import pytest
from host.server import ComfyServer, packs_beside

REQUIRED = os.environ.get("CI") == "true" or os.environ.get("NAG_REQUIRE_BROWSER") == "1"


def lacking(reason):
    """Skip, or fail where these tests must run."""
    if REQUIRED:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser():
    """Not for the session: while Playwright runs, asyncio.run can't, and other tests need it."""
    try:
        from host.browser import BrowserMissing, chromium, find_chromium

        find_chromium()
    except ModuleNotFoundError as error:
        lacking(f"{error}; host/requirements.txt names it.")
    except BrowserMissing as error:
        lacking(str(error))
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def newest_server(tmp_path_factory):
    """A server with the newest frontend in the place of the host's own."""
    from host.browser import newest_frontend

    static = newest_frontend()
    if static is None:
        pytest.skip("The newest frontend can't be had: no package registry.")
    with ComfyServer(tmp_path_factory.mktemp("newest"), arguments=["--front-end-root", static],
                     packs=packs_beside()) as running:
        yield running


@pytest.fixture(scope="session", params=["server", "newest_server"], ids=["host's frontend", "newest frontend"])
def frontend_server(request):
    """The session's server, and one with the newest frontend."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def editor(browser, frontend_server):
    """A fresh page of each of the two frontends. Its console must be free of errors when the test ends."""
    from host.browser import Editor

    with Editor(browser, frontend_server.url) as page:
        yield page
        assert page.errors == []
