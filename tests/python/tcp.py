"""A sentence to the TCP echo, and its answer from one recv; then a second one on the same connection."""
import socket
import sys

host, port = sys.argv[1], int(sys.argv[2])
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
client.settimeout(20)
client.connect((host, port))
for sentence in sys.argv[3:]:
    client.send(sentence.encode())
    print(client.recv(4096).decode())
client.close()
