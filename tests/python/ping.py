"""Ten pings, each waited for at most as long as the third argument says: how many came back."""
import socket
import sys
import time

host, port, patience = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(patience)
came_back = 0
for sequence in range(1, 11):
    sent = time.time()
    message = 'Ping %d %s' % (sequence, sent)
    client.sendto(message.encode(), (host, port))
    try:
        answer, _ = client.recvfrom(1024)
    except socket.timeout:
        continue
    assert answer.decode() == message.upper(), answer
    came_back += 1
print(came_back)
