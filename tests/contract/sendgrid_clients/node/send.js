// SendGrid's Node client against HOST with KEY: a mail with everything, a sandbox mail, a cancelled batch, a mistake.
// Prints one JSON object of what came back.
import client from "@sendgrid/client";
import mail from "@sendgrid/mail";

client.setApiKey(process.env.KEY);
client.setDefaultRequest("baseUrl", process.env.HOST);
mail.setClient(client);

const plain = { from: "sender@example.com", subject: "Hello", text: "Hi", html: "<p>Hi</p>" };
const [, { batch_id: batchId }] = await client.request({ method: "POST", url: "/v3/mail/batch" });
const [whole] = await mail.send({
  ...plain,
  from: { email: "sender@example.com", name: "Shop" },
  replyTo: "reply@example.com",
  personalizations: [
    { to: [{ email: "ada@example.com", name: "Ada" }], cc: ["copy@example.com"], dynamicTemplateData: { n: 1 }, customArgs: { order: "17" } },
    { to: "bob@example.com", dynamicTemplateData: { n: 2 } },
  ],
  templateId: "d-0123456789abcdef0123456789abcdef",
  attachments: [{ content: "JVBERg==", filename: "a.pdf", type: "application/pdf", disposition: "attachment" }],
  categories: ["welcome"],
  sendAt: Math.floor(Date.now() / 1000) + 3600,
  batchId,
});
const [sandbox] = await mail.send({ ...plain, to: "ada@example.com", mailSettings: { sandboxMode: { enable: true } } });
const [cancelled] = await client.request({
  method: "POST", url: "/v3/user/scheduled_sends", body: { batch_id: batchId, status: "cancel" },
});
const mistake = await mail.send({ ...plain, to: "nobody" }).catch((error) => error);
console.log(JSON.stringify({
  id: whole.headers["x-message-id"],
  statuses: [whole.statusCode, sandbox.statusCode, cancelled.statusCode, mistake.code],
  errors: mistake.response.body.errors,
}));
