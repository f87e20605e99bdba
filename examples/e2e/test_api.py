from urllib.request import urlopen


def test_the_api_is_well(api):
    assert urlopen(f"{api}/health", timeout=5).status == 200
