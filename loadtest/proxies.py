"""The proxies of compare.py: who takes part, configured how, and what they are asked.

Roles, and what a contestant's configuration is for in each:

    hit, miss      a gateway in front of origin.c, with its cache on; everything fits into it
    pass           a gateway in front of origin.c that keeps nothing: its cache is off, where it can be turned off. Ours
                   stays on, and has to see for itself that the response may not be stored. The bare relay joins
                   two sockets
    forward-hit    a forward proxy, asked in absolute form, with its cache on
    forward        a forward proxy, asked in absolute form, that keeps nothing, as for `pass`
    tunnel         CONNECT; haproxy and the bare relay have no such thing and join a port to the source
"""
import shutil
from pathlib import Path

OURS = "netlab-reactor"
STORE_BYTES = 1 << 30

# ---- configurations; {…} is filled in at the start -------------------------------------------------------------------

NETLAB = """[[listener]]
kind = "proxy"
bind = "127.0.0.1:{port}"
allow_destinations = ["127.0.0.0/8"]
connect_ports = []
cache_dir = "{dir}/cache"
idle_timeout = "1h"
"""
NETLAB_GATEWAY = NETLAB + 'upstream = "http://127.0.0.1:{origin}"\n'
NETLAB_SITE = '[[listener]]\nkind = "http"\nbind = "127.0.0.1:{port}"\nroot = "{built}/site"\nidle_timeout = "1h"\n'
NGINX = """daemon off; {nginx_user} worker_processes 1; pid {dir}/pid; error_log stderr error; worker_rlimit_nofile {nofile};
events {{ worker_connections 12000; multi_accept on; accept_mutex off; }}
http {{
    access_log off; tcp_nodelay on; sendfile on; output_buffers 2 128k;
    keepalive_timeout 3600; keepalive_requests 1000000000;
    open_file_cache max=10000 inactive=1h; open_file_cache_valid 60s;
    client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
    uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    proxy_cache_path {dir}/cache levels=1:2 keys_zone=c:100m inactive=1h max_size=1g use_temp_path=off;
    upstream origin {{ server 127.0.0.1:{origin}; keepalive 128; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; HOW }}
    }}
}}
"""
NGINX_CACHE = NGINX.replace("HOW", "proxy_cache c;")
NGINX_PASS = NGINX.replace("HOW", "proxy_buffer_size 16k; proxy_buffers 8 16k;")
HAPROXY = """global
    nbthread 1
    maxconn 2000
defaults
    mode http
    timeout client 1h
    timeout server 1h
    timeout connect 5s
    option http-keep-alive
    http-reuse always
"""
HAPROXY_CACHE = HAPROXY + """cache c
    total-max-size 1024
    max-object-size 200000
    max-age 3600
listen gateway
    bind 127.0.0.1:{port} backlog 4096
    http-request cache-use c
    http-response cache-store c
    server origin 127.0.0.1:{origin}
"""
HAPROXY_PASS = HAPROXY + """listen gateway
    bind 127.0.0.1:{port} backlog 4096
    server origin 127.0.0.1:{origin}
"""
HAPROXY_TUNNEL = HAPROXY + """listen tunnel
    mode tcp
    option splice-auto
    bind 127.0.0.1:{port} backlog 4096
    server source 127.0.0.1:{source}
"""
SQUID = """workers 1
cache_mem 1 GB
maximum_object_size_in_memory 4 MB
memory_pools on
access_log none
cache_log {dir}/cache.log
cache_store_log none
pid_filename {dir}/squid.pid
coredump_dir {dir}
pinger_enable off
icp_port 0
visible_hostname loadtest
shutdown_lifetime 1 second
client_idle_pconn_timeout 1 hour
dns_nameservers 127.0.0.1
http_access allow all
via off
forwarded_for delete
"""
SQUID_GATEWAY = SQUID + """http_port 127.0.0.1:{port} accel defaultsite=127.0.0.1 no-vhost
cache_peer 127.0.0.1 parent {origin} 0 no-query no-digest originserver name=origin
never_direct allow all
"""
SQUID_FORWARD = SQUID + "http_port 127.0.0.1:{port}\nalways_direct allow all\n"
OFF = "cache deny all\n"
VARNISH = """vcl 4.1;
backend origin {{ .host = "127.0.0.1"; .port = "{origin}"; }}
"""
VARNISH_PASS = VARNISH + "sub vcl_recv {{ return (pass); }}\n"
TINYPROXY = """Port {port}
Listen 127.0.0.1
Timeout 600
MaxClients 200
Allow 127.0.0.1
LogLevel Critical
LogFile "{dir}/log"
DisableViaHeader Yes
"""
ATS = {
    "exec_thread.autoconfig INT": "0",
    "exec_thread.limit INT": "1",
    "accept_threads INT": "0",
    "task_threads INT": "1",
    "cache.threads_per_disk INT": "1",
    "cache.ram_cache.size INT": str(STORE_BYTES // 4),
    "log.logging_enabled INT": "0",
    "admin.user_id STRING": "#-1",
    "http.server_ports STRING": "{port}:ipv4:ip-in=127.0.0.1",
    "url_remap.remap_required INT": "0",
    "reverse_proxy.enabled INT": "1",
    "http.connect_ports STRING": "*",
    "http.keep_alive_no_activity_timeout_in INT": "3600",
    "http.insert_response_via_str INT": "0",
    "http.cache.http INT": "{ats_cache}",
}


def traffic_server(caches):
    """What makes Traffic Server's folders before it starts, `caches` or not; it wants a tree of its own."""
    def prepare(values):
        tree = Path(values["dir"]) / "ats"
        values = values | {"ats_cache": int(caches)}
        etc = tree / "etc"
        shutil.copytree("/etc/trafficserver", etc)
        for folder in ("run", "log", "cache", "data"):
            (tree / folder).mkdir()
        where = dict(prefix=tree, exec_prefix="/usr", bindir="/usr/bin", sbindir="/usr/sbin", sysconfdir=etc,
                     datadir=tree / "data", includedir="/usr/include", libdir="/usr/lib/trafficserver",
                     libexecdir="/usr/lib/trafficserver/modules", localstatedir=tree, runtimedir=tree / "run",
                     logdir=tree / "log", cachedir=tree / "cache")
        (tree / "runroot.yaml").write_text("".join(f"{name}: {path}\n" for name, path in where.items()))
        records = "".join(f"CONFIG proxy.config.{name} {value}\n" for name, value in ATS.items())
        (etc / "records.config").write_text(records.format(**values))
        (etc / "remap.config").write_text("map http://127.0.0.1:{port}/ http://127.0.0.1:{origin}/\n".format(**values))
        (etc / "storage.config").write_text(f"{tree}/cache {STORE_BYTES}\n")
        (etc / "ip_allow.yaml").write_text(
            "ip_allow:\n  - {apply: in, ip_addrs: 0/0, action: allow, methods: ALL}\n"
            "  - {apply: out, ip_addrs: 0/0, action: allow, methods: ALL}\n")
        for path in [Path(values["dir"]), *tree.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o777)                   # it becomes somebody else
    return prepare


# ---- contestants: name -> role -> (command, configuration), and what is to be done before it starts ------------------

SERVE = "{ours} -qq --config {conf}"
RUN_NGINX = "nginx -e stderr -c {conf}"
RUN_HAPROXY = "haproxy -q -db -f {conf}"
RUN_SQUID = "squid -N -n loadtest -f {conf}"
RUN_VARNISH = ("varnishd -F -j none -n {dir}/v -a 127.0.0.1:{port} -f {conf} -s malloc,1g -t 3600 -p thread_pools=1"
               " -p thread_pool_min=100 -p thread_pool_max=200")
RUN_TINYPROXY = "tinyproxy -d -c {conf}"
RUN_ATS = "traffic_server --run-root={dir}/ats/runroot.yaml"


def caches(run, cache, without):
    return {"hit": (run, cache), "miss": (run, cache), "pass": (run, without)}


ATS_ON, ATS_OFF = (RUN_ATS, "", traffic_server(True)), (RUN_ATS, "", traffic_server(False))
PROXIES = {
    OURS: caches(SERVE, NETLAB_GATEWAY, NETLAB_GATEWAY) | {
        role: (SERVE, NETLAB) for role in ("forward-hit", "forward", "tunnel")},
    f"{OURS} http": {"hit": (SERVE, NETLAB_SITE)},      # what a file of a site costs
    "bare": {"pass": ("{built}/relay {port} {origin} copy", ""), "tunnel": ("{built}/relay {port} {source}", "")},
    "nginx": caches(RUN_NGINX, NGINX_CACHE, NGINX_PASS),
    "haproxy": caches(RUN_HAPROXY, HAPROXY_CACHE, HAPROXY_PASS) | {"tunnel": (RUN_HAPROXY, HAPROXY_TUNNEL)},
    "varnish": caches(RUN_VARNISH, VARNISH, VARNISH_PASS),
    "squid": caches(RUN_SQUID, SQUID_GATEWAY, SQUID_GATEWAY + OFF) | {
        "forward-hit": (RUN_SQUID, SQUID_FORWARD), "forward": (RUN_SQUID, SQUID_FORWARD + OFF),
        "tunnel": (RUN_SQUID, SQUID_FORWARD)},
    "trafficserver": {"hit": ATS_ON, "miss": ATS_ON, "pass": ATS_OFF, "forward-hit": ATS_ON, "forward": ATS_OFF,
                      "tunnel": ATS_ON},
    "tinyproxy": {role: (RUN_TINYPROXY, TINYPROXY) for role in ("forward", "tunnel")},
}
ROLES = ("hit", "miss", "pass", "forward-hit", "forward", "tunnel")
PLAIN_TUNNELS = ("bare", "haproxy")     # without CONNECT

# ---- cases: name -> (role, what it is, unit, load) -------------------------------------------------------------------

WRK = "wrk -t1 -c64 -d{seconds}s --latency --timeout 5s -s {here}/"
GATEWAY = WRK + "http.lua http://127.0.0.1:{port}"
FORWARD = WRK + "proxy.lua http://127.0.0.1:{port}/ -- target=http://127.0.0.1:{origin}"
SIZES = {"1k": ("1 KiB", 1024), "64k": ("64 KiB", 65536)}


def sized(role, title, load):
    return {f"{role}-{name}": (role, title.format(words), "requests", load.replace("SIZE", str(size)))
            for name, (words, size) in SIZES.items()}


CASES = {
    **sized("hit", "gateway, {} from the cache, 64 kept connections", GATEWAY + "/kept/SIZE"),
    **sized("miss", "gateway, {} that are asked for once and stored, 64 kept connections", GATEWAY + "/kept/SIZE -- unique"),
    **sized("pass", "gateway, {} that may not be stored, 64 kept connections", GATEWAY + "/passed/SIZE"),
    **sized("forward-hit", "forward proxy, {} from the cache, 64 kept connections", FORWARD + "/kept/SIZE"),
    **sized("forward", "forward proxy, {} that may not be stored, 64 kept connections", FORWARD + "/passed/SIZE"),
    "tunnel-1": ("tunnel", "one CONNECT, bytes as fast as they go", "MiB", "{built}/load tunnel {port} {source} 1 {seconds} {tunnel}"),
    "tunnel-16": ("tunnel", "16 of CONNECT, bytes as fast as they go", "MiB",
                  "{built}/load tunnel {port} {source} 16 {seconds} {tunnel}"),
}
