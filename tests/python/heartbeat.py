"""Heartbeats from one port: two, with one number skipped between them; prints the port, or takes it as third argument."""
import socket
import sys
import time

host, port = sys.argv[1], int(sys.argv[2])
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.bind(('127.0.0.1', int(sys.argv[3]) if len(sys.argv) > 3 else 0))
for sequence in (1, 3):
    client.sendto(('Heartbeat %d %f' % (sequence, time.time())).encode(), (host, port))
print(client.getsockname()[1])
