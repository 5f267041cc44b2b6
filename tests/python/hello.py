"""The hello stream: prints each message as one recv brings it, and answers."""
import socket
import sys

host, port = sys.argv[1], int(sys.argv[2])
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
client.settimeout(20)
client.connect((host, port))
while True:
    message = client.recv(1024)
    if not message:
        break
    print(message.decode())
    client.send(b'byebye')
client.close()
