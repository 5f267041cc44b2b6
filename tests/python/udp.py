"""A datagram to the UDP echo, and its answer."""
import socket
import sys

host, port = sys.argv[1], int(sys.argv[2])
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(20)
for sentence in sys.argv[3:]:
    client.sendto(sentence.encode(), (host, port))
    answer, address = client.recvfrom(65535)
    assert address == (host, port), address
    print(answer.decode())
