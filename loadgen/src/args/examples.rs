//! The ends of the helps: examples, and what they need to be understood.

pub(super) const RR_EXAMPLES: &str = "\
Examples:
  loadgen rr 127.0.0.1:1234 -c 1k -d 10s -s 64
  loadgen rr 127.0.0.1:6379 --send 'PING\\r\\n' --expect '+PONG\\r\\n' --pipeline 16

With --pipeline K each connection has up to K requests under way. The timeout is that of the oldest. When a connection \
fails, the oldest is the failure; those behind it, whose replies nobody has seen, are failures, too: 'given up with its \
connection'. Where an HTTP server closes a connection, as it says or while it has nothing to do, what it leaves unanswered \
is sent again on a new one, and its time goes on.

The verdict and the exit codes: `loadgen --help`";

pub(super) const COMPARE_EXAMPLES: &str = "\
Example:
  loadgen rr 127.0.0.1:1234 -c 100 -d 5s --runs 5 --json before.json
  loadgen rr 127.0.0.1:1234 -c 100 -d 5s --runs 5 --json after.json
  loadgen compare before.json after.json --json=difference.json
  loadgen compare --unlike c20.json c100.json           what do more connections cost?

The interval is Welch's for the difference of the logarithms: a change is a ratio, and a fall has no end below -100 %.";

pub(super) const MERGE_EXAMPLES: &str = "\
Example: two processes, a load of 20,000 requests a second together, in half a minute
  AT=$(date -d '+30 sec' +%s)
  loadgen open 10.0.0.9:1234 -c 1k -R 20k --seed 1 --start-at $AT --shard 0/2 --json 0.json &
  loadgen open 10.0.0.9:1234 -c 1k -R 20k --seed 1 --start-at $AT --shard 1/2 --json 1.json
  wait; loadgen merge 0.json 1.json --json whole.json

With ssh, and in Kubernetes: loadgen/several-machines.md";

pub(super) const SEARCH_EXAMPLES: &str = "\
Examples:
  loadgen search 127.0.0.1:1234 -c 100 --slo 'p99<2ms,err<0.01%'
  loadgen search 127.0.0.1:1234 -c 100 --slo 'p99<2ms' --from 1k --to 50k --precision 2
  loadgen search http://127.0.0.1:80/ -c 100 --slo 'p99.9<50ms' -d 20s --html page.html     with a picture: latency over rate

--json has answer_per_s, first_failed_per_s and trials, each with all of its results, beside what a run's JSON has, \
which is about the trial that decided; --csv has a line for each trial, --hlog all of them, tagged with their rates, and \
--hgrm those latencies that the answer is about.

Exit code: 0 there is an answer; 3 not even the lowest rate meets the conditions; 4 the generator gave out before the \
server did; 1 connections failed, replies were wrong (without err in --slo), or it was interrupted. The others: `loadgen \
--help`";

pub(super) const OPEN_EXAMPLES: &str = "\
Examples:
  loadgen open 127.0.0.1:1234 -c 1k -R 20k -d 10s
  loadgen open 127.0.0.1:1234 -c 1k -R 20k --arrival constant
  loadgen open 127.0.0.1:1234 -c 1k --ramp 1k:100k -d 30s     where does it break?

The verdict and the exit codes: `loadgen --help`";

pub(super) const CHURN_EXAMPLES: &str = "\
Examples:
  loadgen churn 127.0.0.1:1234 -c 50 -d 10s             how many connections a second?
  loadgen churn 127.0.0.1:1234 -c 200 -R 1k             how long does each take, at that rate?
  loadgen churn http://127.0.0.1/ -c 50 --close server  as browsers do without keep-alive

How connections end decides what becomes of their source ports. Whoever closes first keeps the port in TIME_WAIT for 60 s. \
By reset (the default) nobody does, and a port is free again at once. With --close fin it is this side: the kernel's 28,000 \
ports then give no more than 470 connections a second to one target for as long as you like, and more only until they \
have run out, which counts as failed connects. (Toward this machine itself it lets them go after 2 s: \
net.ipv4.tcp_tw_reuse. Ports of --source need not wait, where both sides have TCP's timestamps. `loadgen doctor` with -R \
and --close does the sum.) With --close server the ports wait at the server, where they cost memory, but nobody runs out \
of them. Unix sockets have no ports: there --close reset and --close fin are the same.

The verdict and the exit codes: `loadgen --help`";

/// Examples, at the end of the short help and of the long one.
macro_rules! examples {
    () => {
        "\
Examples:
  loadgen                                          the demonstration
  loadgen serve --listen 127.0.0.1:1234            an echo server to try the others on
  loadgen rr 127.0.0.1:1234 -c 1k -d 10s           as fast as 1,000 waiting clients go
  loadgen open 127.0.0.1:1234 -c 1k -R 20k         latency at 20,000 requests a second
  loadgen churn 127.0.0.1:1234 -c 50               how many connections a second?
  loadgen search 127.0.0.1:1234 --slo 'p99<2ms'    the highest rate that meets that
  loadgen hold 127.0.0.1:1234 -c 10k -d 1m         do 10,000 idle connections survive?
  loadgen hold -c 1M                               does this machine hold a million?
  loadgen doctor -c 1M                             and if not, why not?
  loadgen rr 127.0.0.1:1234 --json - --quiet       results for a script
  loadgen merge 0.json 1.json                      results of several machines (--shard, --start-at) as one
  loadgen rr http://127.0.0.1:80/index.html -c 100 any HTTP/1.1 server: GET, status and length checked
  loadgen rr ws://127.0.0.1:1234/ -c 100           any server of WebSockets that echoes
  loadgen rr https://localhost/ --cacert root.pem  through TLS: also tls:// and wss://
  loadgen rr 127.0.0.1:6379 --send 'PING\\r\\n' --expect '+PONG\\r\\n'
                                                   any protocol of requests and replies, here Redis's
  loadgen rr unix:/run/redis.sock --send 'PING\\r\\n' --expect '+PONG\\r\\n'
                                                   the same over a Unix socket
  loadgen rr http://localhost/ --unix-socket /run/app.sock
                                                   HTTP over a Unix socket, spelled as curl does"
    };
}

pub(super) const EXAMPLES: &str =
    concat!(examples!(), "\n\nThe verdict, the exit codes, and what other tools call it: `loadgen --help`");

/// The long help's end. Each paragraph is one line, which clap breaks where the terminal ends.
pub(super) const EXAMPLES_AND_MORE: &str = concat!(
    examples!(),
    "

Without those, any TCP server that echoes will do:
  socat TCP-LISTEN:1234,fork,reuseaddr,bind=127.0.0.1 EXEC:cat

Coming from another tool:
  wrk -t2 -c100 -d30s --latency URL     loadgen rr URL -t2 -c100 -d30s
  wrk2 -t2 -c100 -d30s -R2000 URL       loadgen open URL -t2 -c100 -d30s -R2000
  hey -z 30s -c 100 URL                 loadgen rr URL -z 30s -c 100
  oha -z 30s -c 100 -q 2000 URL         loadgen open URL -z 30s -c 100 -R 2000
  h2load --h1 -D 30 -c 100 -t 2 URL     loadgen rr URL -D 30 -c 100 -t 2
  redis-benchmark -t ping               loadgen rr HOST:6379 --send 'PING\\r\\n' --expect '+PONG\\r\\n'
  redis-benchmark -t ping -P 16         the same, and --pipeline 16
  h2load --h1 -m 16 URL                 loadgen rr URL --pipeline 16
  wrk -s pipeline.lua URL               loadgen rr URL --pipeline 16
Of HTTP there is GET of a path, and nothing else: no headers of one's own, no other methods, no bodies (-H, -m, -d of hey, -s of \
wrk).
A run lasts for a time, so -n, a number of requests, has no counterpart. -q is --quiet, and -d a duration.

Failures: a connect that failed, a connection lost, a byte that was not the one sent, a request without an answer.
Verdict: SUSPECT, where the figures may not be the server's: less than 99 % of the rate achieved, requests sent so late \
that it shows in the latency, a generating thread busy for more than 80 % of the time (what it spins before a request is due \
is not counted) or ready to run without a processor for more than 20 %, or for a quarter of the latency, a generator that stood still, SYNs sent again, \
another pace in the last third than in the first, too few answers for a p90 (without --slo). VALID otherwise. Runs of less than 2 s are not judged.

Exit code: 0 all is well; 1 the run failed, was interrupted before it had done all its stages (what there was until \
then is reported), or is impossible on this machine or with that server; 2 the arguments alone make it impossible; \
3 a condition of --slo was not kept to; 4 nothing failed, but the verdict is SUSPECT, or there were too few samples (of `compare`: runs) to \
judge a condition of --slo, or `compare` was given different loads; 5 `compare` found something that \
is really worse. The first that holds of 2, 1, \
3, 4 is the code. The demonstration shows its verdict and does not end with 4; an interrupted `serve` has done what it \
was asked: 0.

Connections come from where the kernel chooses (127.0.0.1 toward 127.0.0.1) as long as they are fewer than half of \
its ports for each target, then from 127.0.0.1 and further addresses of 127.0.0.0/8, or from those of --source. \
They end with a reset, so that none is left in TIME_WAIT; those of `churn` as --close says."
);
