// Stands for any front end that is told its port by PORT.
const server = require("node:http").createServer((_, answer) => answer.end(`${process.pid}\n`));
server.listen(process.env.PORT, "127.0.0.1", () => console.log(`port ${process.env.PORT}`));
