"""The attacks, in the order in which they run."""

from campaign.attack import Attack

# One line an attack: its module, what a try is, and how many there are at N=1.
ATTACKS = (
    Attack("indexer_kills", "kill of `index` at a random moment, and the same command again", 2),
    Attack("redo_kills", "kill of `index --partition` on a run that is shown, then a commit", 2),
    Attack("solr_kills", "kill of Solr while `index` runs", 0.5),
    Attack("driver_kills", "kill of `tag`, and the same command again", 1),
    Attack("worker_kills", "kill of a worker of `tag`, and the same command again", 0.5),
    Attack("faults", "`index` through a proxy that fails in one of eleven ways", 3),
    Attack("delayed_deletes", "`index --partition` whose deletes arrive once more after it has ended", 1),
    Attack("alias_races", "two `index --beside` at once", 2),
    Attack("leases_local", "acquisition of one lease by four processes, some killed", 20),
    Attack("leases_hdfs", "acquisition of one lease in HDFS by four processes, some killed", 0.5),
    Attack("prediction_kills", "kill of a process that stores predictions, beside another one", 3),
    Attack(
        "prediction_kills_cassandra",
        "kill of a process that stores predictions in Cassandra, beside another one",
        0.5,
    ),
    Attack("page_kills", "kill of the page while four clients have pictures classified", 0.5),
    Attack("flips", "flipped byte in a manifest, card or statistics file", 20),
    Attack("disk_full", "`ingest` and `tag` on a disk that is full, and again on a larger one", 0.5),
    Attack("power_cuts", "`tag` on a disk as a power cut leaves it", 0.5),
    Attack("dumps", "malformed dump", 60),
    Attack("web_fuzz", "hostile request of the page", 100),
    Attack(
        "request_shapes", "hostile value of a URL parameter, and the requests of Solr that come of it", 20
    ),
    Attack("stored_markup", "page with markup in tags, in a browser", 3),
    Attack("rebinding", "request with another site's Host", 5),
    Attack("slow_connections", "search beside 600 silent and 200 slow connections", 1),
    Attack("load", "page of 50 users with `index` beside it", 100),
)
